#compdef iscsiadm
# SPDX-License-Identifier: LGPL-2.1-or-later
# zsh completion of iscsiadm. Made from iscsiboot/admin/options.py and iscsiboot/database/keys.py by
# "python3 -m tools.manual"; change those, not this file.

_iscsiadm_targetname() {
    local -a found=($database/nodes/*(N:t))
    compadd -a found
}

# nodes/TARGET/ADDRESS,PORT,TAG and send_targets/ADDRESS,PORT; portals as -p takes them.
_iscsiadm_portal() {
    local -a paths found
    local portal address port
    if [[ $mode == node ]]; then
        paths=($database/nodes/${target:-*}/*(N:t))
        [[ -n $target ]] || paths=($database/nodes/*/*(N:t))
    else
        paths=($database/send_targets/*(N:t) $database/isns/*(N:t))
    fi
    for portal in $paths; do
        [[ $portal == *,* ]] || continue
        address=${portal%%,*}
        port=${${portal#*,}%%,*}
        [[ $address == *:* ]] && address="[$address]"
        found+=("$address:$port")
    done
    compadd -a found
}

_iscsiadm_interface() {
    local -a found=(default iser $database/ifaces/*(N:t))
    compadd -a found
}

_iscsiadm_sid() {
    local -a found=($sysfs/class/iscsi_session/session*(N:t))
    found=(${found#session})
    compadd -a found
}

_iscsiadm_host() {
    local -a found=($sysfs/class/iscsi_host/host*(N:t))
    found=(${found#host})
    compadd -a found
}

_iscsiadm_op() {
    local -a found
    case $mode in
        discovery) found=(new delete update nonpersistent show) ;;
        discoverydb) found=(new delete update nonpersistent show) ;;
        node) found=(new delete update show) ;;
        session) found=(new delete update show) ;;
        iface) found=(new delete update show apply applyall) ;;
        host) found=(new delete update show login logout) ;;
    esac
    compadd -a found
}

_iscsiadm_submode() {
    local -a found
    case $mode in
        iface) found=(ping) ;;
        host) found=(chap flashnode stats) ;;
    esac
    compadd -a found
}

_iscsiadm_print() {
    local -a found
    case $mode in
        discovery) found=(0 1) ;;
        discoverydb) found=(0 1) ;;
        node) found=(0 1) ;;
        session) found=(0 1 2 3) ;;
        iface) found=(0 1) ;;
        host) found=(0 1 2 3 4) ;;
    esac
    compadd -a found
}

_iscsiadm_name() {
    local -a found
    case $mode in
        node) found=(node.startup node.leading_login node.session.initial_cmdsn node.session.initial_login_retry_max node.session.xmit_thread_priority node.session.cmds_max node.session.queue_depth node.session.nr_sessions node.session.auth.authmethod node.session.auth.username node.session.auth.password node.session.auth.username_in node.session.auth.password_in node.session.auth.chap_algs node.session.timeo.replacement_timeout node.session.err_timeo.abort_timeout node.session.err_timeo.lu_reset_timeout node.session.err_timeo.tgt_reset_timeout node.session.err_timeo.host_reset_timeout node.session.iscsi.FastAbort node.session.iscsi.InitialR2T node.session.iscsi.ImmediateData node.session.iscsi.FirstBurstLength node.session.iscsi.MaxBurstLength node.session.iscsi.DefaultTime2Retain node.session.iscsi.DefaultTime2Wait node.session.iscsi.MaxConnections node.session.iscsi.MaxOutstandingR2T node.session.iscsi.ERL node.session.scan node.session.reopen_max node.session.sess_reopen_log_freq 'node.conn[0].startup' 'node.conn[0].tcp.window_size' 'node.conn[0].tcp.type_of_service' 'node.conn[0].tcp.congestion_control' 'node.conn[0].timeo.logout_timeout' 'node.conn[0].timeo.login_timeout' 'node.conn[0].timeo.auth_timeout' 'node.conn[0].timeo.noop_out_interval' 'node.conn[0].timeo.noop_out_timeout' 'node.conn[0].iscsi.MaxXmitDataSegmentLength' 'node.conn[0].iscsi.MaxRecvDataSegmentLength' 'node.conn[0].iscsi.HeaderDigest' 'node.conn[0].iscsi.DataDigest' 'node.conn[0].iscsi.IFMarker' 'node.conn[0].iscsi.OFMarker' node.transport_name iface.transport_name) ;;
        session) found=(node.startup node.leading_login node.session.initial_cmdsn node.session.initial_login_retry_max node.session.xmit_thread_priority node.session.cmds_max node.session.queue_depth node.session.nr_sessions node.session.auth.authmethod node.session.auth.username node.session.auth.password node.session.auth.username_in node.session.auth.password_in node.session.auth.chap_algs node.session.timeo.replacement_timeout node.session.err_timeo.abort_timeout node.session.err_timeo.lu_reset_timeout node.session.err_timeo.tgt_reset_timeout node.session.err_timeo.host_reset_timeout node.session.iscsi.FastAbort node.session.iscsi.InitialR2T node.session.iscsi.ImmediateData node.session.iscsi.FirstBurstLength node.session.iscsi.MaxBurstLength node.session.iscsi.DefaultTime2Retain node.session.iscsi.DefaultTime2Wait node.session.iscsi.MaxConnections node.session.iscsi.MaxOutstandingR2T node.session.iscsi.ERL node.session.scan node.session.reopen_max node.session.sess_reopen_log_freq 'node.conn[0].startup' 'node.conn[0].tcp.window_size' 'node.conn[0].tcp.type_of_service' 'node.conn[0].tcp.congestion_control' 'node.conn[0].timeo.logout_timeout' 'node.conn[0].timeo.login_timeout' 'node.conn[0].timeo.auth_timeout' 'node.conn[0].timeo.noop_out_interval' 'node.conn[0].timeo.noop_out_timeout' 'node.conn[0].iscsi.MaxXmitDataSegmentLength' 'node.conn[0].iscsi.MaxRecvDataSegmentLength' 'node.conn[0].iscsi.HeaderDigest' 'node.conn[0].iscsi.DataDigest' 'node.conn[0].iscsi.IFMarker' 'node.conn[0].iscsi.OFMarker') ;;
        fw) found=(node.startup node.leading_login node.session.initial_cmdsn node.session.initial_login_retry_max node.session.xmit_thread_priority node.session.cmds_max node.session.queue_depth node.session.nr_sessions node.session.auth.authmethod node.session.auth.username node.session.auth.password node.session.auth.username_in node.session.auth.password_in node.session.auth.chap_algs node.session.timeo.replacement_timeout node.session.err_timeo.abort_timeout node.session.err_timeo.lu_reset_timeout node.session.err_timeo.tgt_reset_timeout node.session.err_timeo.host_reset_timeout node.session.iscsi.FastAbort node.session.iscsi.InitialR2T node.session.iscsi.ImmediateData node.session.iscsi.FirstBurstLength node.session.iscsi.MaxBurstLength node.session.iscsi.DefaultTime2Retain node.session.iscsi.DefaultTime2Wait node.session.iscsi.MaxConnections node.session.iscsi.MaxOutstandingR2T node.session.iscsi.ERL node.session.scan node.session.reopen_max node.session.sess_reopen_log_freq 'node.conn[0].startup' 'node.conn[0].tcp.window_size' 'node.conn[0].tcp.type_of_service' 'node.conn[0].tcp.congestion_control' 'node.conn[0].timeo.logout_timeout' 'node.conn[0].timeo.login_timeout' 'node.conn[0].timeo.auth_timeout' 'node.conn[0].timeo.noop_out_interval' 'node.conn[0].timeo.noop_out_timeout' 'node.conn[0].iscsi.MaxXmitDataSegmentLength' 'node.conn[0].iscsi.MaxRecvDataSegmentLength' 'node.conn[0].iscsi.HeaderDigest' 'node.conn[0].iscsi.DataDigest' 'node.conn[0].iscsi.IFMarker' 'node.conn[0].iscsi.OFMarker') ;;
        iface) found=(iface.net_ifacename iface.ipaddress iface.prefix_len iface.hwaddress iface.transport_name iface.initiatorname iface.state iface.vlan_id iface.vlan_priority iface.vlan_state iface.iface_num iface.mtu iface.port iface.bootproto iface.subnet_mask iface.gateway iface.dhcp_alt_client_id_state iface.dhcp_alt_client_id iface.dhcp_dns iface.dhcp_learn_iqn iface.dhcp_req_vendor_id_state iface.dhcp_vendor_id_state iface.dhcp_vendor_id iface.dhcp_slp_da iface.fragmentation iface.gratuitous_arp iface.incoming_forwarding iface.tos_state iface.tos iface.ttl iface.ipv6_autocfg iface.linklocal_autocfg iface.router_autocfg iface.ipv6_linklocal iface.ipv6_router iface.dup_addr_detect_cnt iface.flow_label iface.gratuitous_neighbor_adv iface.hop_limit iface.mld iface.nd_reachable_tmo iface.nd_rexmit_time iface.nd_stale_tmo iface.router_adv_link_mtu iface.traffic_class iface.delayed_ack iface.tcp_nagle iface.tcp_wsf_state iface.tcp_wsf iface.tcp_timer_scale iface.tcp_timestamp iface.redirect iface.def_task_mgmt_timeout iface.header_digest iface.data_digest iface.immediate_data iface.initial_r2t iface.data_seq_inorder iface.data_pdu_inorder iface.erl iface.max_receive_data_len iface.first_burst_len iface.max_outstanding_r2t iface.max_burst_len iface.chap_auth iface.bidi_chap iface.strict_login_compliance iface.discovery_auth iface.discovery_logout) ;;
        discoverydb) found=(discovery.startup discovery.sendtargets.auth.authmethod discovery.sendtargets.auth.username discovery.sendtargets.auth.password discovery.sendtargets.auth.username_in discovery.sendtargets.auth.password_in node.session.auth.chap_algs discovery.sendtargets.timeo.login_timeout discovery.sendtargets.use_discoveryd discovery.sendtargets.discoveryd_poll_inval discovery.sendtargets.reopen_max discovery.sendtargets.timeo.auth_timeout discovery.sendtargets.timeo.active_timeout discovery.sendtargets.iscsi.MaxRecvDataSegmentLength discovery.isns.use_discoveryd discovery.isns.discoveryd_poll_inval) ;;
    esac
    compadd -a found
}

_iscsiadm_value() {
    local -a found
    case $name in
        'iscsid.safe_logout' | 'iscsid.ipc_auth_uid' | 'discovery.isns.use_discoveryd' | 'discovery.sendtargets.use_discoveryd' | 'node.leading_login' | 'node.session.iscsi.FastAbort' | 'node.session.iscsi.InitialR2T' | 'node.session.iscsi.ImmediateData' | 'node.conn[0].iscsi.IFMarker' | 'node.conn[0].iscsi.OFMarker') found=(No Yes) ;;
        'discovery.startup') found=(manual automatic) ;;
        'discovery.sendtargets.auth.authmethod' | 'node.session.auth.authmethod') found=(None CHAP) ;;
        'node.session.auth.chap_algs') found=(MD5 SHA1 SHA256 SHA3-256) ;;
        'node.startup' | 'node.conn[0].startup') found=(manual automatic onboot) ;;
        'node.session.scan') found=(manual auto) ;;
        'node.conn[0].iscsi.HeaderDigest' | 'node.conn[0].iscsi.DataDigest') found=(None CRC32C CRC32C,None None,CRC32C) ;;
    esac
    compadd -a found
}

_iscsiadm_specs() {
    case $mode in
        discovery)
            options=(
                '(-m --mode)'{-m+,--mode=}'[discovery, discoverydb, node, session, iface, fw or host]:mode:(discovery discoverydb node session iface fw host)'
                '(-p --portal)'{-p+,--portal=}'[address\[:port\]\[,tag\]; IPv6 as \[address\]:port]:portal:_iscsiadm_portal'
                '*'{-I+,--interface=}'[an interface record]:iface:_iscsiadm_interface'
                '*'{-o+,--op=}'[what to do with records: new, delete, update, show, nonpersistent, apply, applyall, login, logout]:operation:_iscsiadm_op'
                '(-t --type)'{-t+,--type=}'[way of discovery: sendtargets (st), isns or fw]:type:(sendtargets st isns fw)'
                '*'{-n+,--name=}'[a parameter of a record, with --value]:name:_iscsiadm_name'
                '*'{-v+,--value=}'[the value of the parameter before it]:value:_iscsiadm_value'
                '(-P --print)'{-P+,--print=}'[how much to print: a tree from 1 on]:level:_iscsiadm_print'
                '(-D --discover)'{-D,--discover}'[discover with a stored record]'
                '(-l --login)'{-l,--login}'[log in]'
                '(-d --debug)'{-d+,--debug=}'[tell the steps on the way: 0 to 8]:level:(0 1 2 3 4 5 6 7 8)'
                '(-S --show)'{-S,--show}'[print secrets instead of stars]'
                --json'[print one JSON document]'
                --wait-device'[end when the disks of a new session are there]'
                --timeout='[give up after this time]:seconds: '
            )
            ;;
        discoverydb)
            options=(
                '(-m --mode)'{-m+,--mode=}'[discovery, discoverydb, node, session, iface, fw or host]:mode:(discovery discoverydb node session iface fw host)'
                '(-p --portal)'{-p+,--portal=}'[address\[:port\]\[,tag\]; IPv6 as \[address\]:port]:portal:_iscsiadm_portal'
                '*'{-I+,--interface=}'[an interface record]:iface:_iscsiadm_interface'
                '*'{-o+,--op=}'[what to do with records: new, delete, update, show, nonpersistent, apply, applyall, login, logout]:operation:_iscsiadm_op'
                '(-t --type)'{-t+,--type=}'[way of discovery: sendtargets (st), isns or fw]:type:(sendtargets st isns fw)'
                '*'{-n+,--name=}'[a parameter of a record, with --value]:name:_iscsiadm_name'
                '*'{-v+,--value=}'[the value of the parameter before it]:value:_iscsiadm_value'
                '(-P --print)'{-P+,--print=}'[how much to print: a tree from 1 on]:level:_iscsiadm_print'
                '(-D --discover)'{-D,--discover}'[discover with a stored record]'
                '(-l --login)'{-l,--login}'[log in]'
                '(-d --debug)'{-d+,--debug=}'[tell the steps on the way: 0 to 8]:level:(0 1 2 3 4 5 6 7 8)'
                '(-S --show)'{-S,--show}'[print secrets instead of stars]'
                --json'[print one JSON document]'
                --wait-device'[end when the disks of a new session are there]'
                --timeout='[give up after this time]:seconds: '
            )
            ;;
        node)
            options=(
                '(-m --mode)'{-m+,--mode=}'[discovery, discoverydb, node, session, iface, fw or host]:mode:(discovery discoverydb node session iface fw host)'
                '(-p --portal)'{-p+,--portal=}'[address\[:port\]\[,tag\]; IPv6 as \[address\]:port]:portal:_iscsiadm_portal'
                '(-T --targetname)'{-T+,--targetname=}'[the target'\''s iSCSI name]:target:_iscsiadm_targetname'
                '*'{-I+,--interface=}'[an interface record]:iface:_iscsiadm_interface'
                '*'{-o+,--op=}'[what to do with records: new, delete, update, show, nonpersistent, apply, applyall, login, logout]:operation:_iscsiadm_op'
                '*'{-n+,--name=}'[a parameter of a record, with --value]:name:_iscsiadm_name'
                '*'{-v+,--value=}'[the value of the parameter before it]:value:_iscsiadm_value'
                '(-R --rescan)'{-R,--rescan}'[look for new disks and new sizes]'
                '(-P --print)'{-P+,--print=}'[how much to print: a tree from 1 on]:level:_iscsiadm_print'
                '(-l --login)'{-l,--login}'[log in]'
                '(-L --loginall)'{-L+,--loginall=}'[log in to records whose node.startup is WHICH, or all]:which:(all manual automatic onboot)'
                '(-u --logout)'{-u,--logout}'[log out]'
                '(-U --logoutall)'{-U+,--logoutall=}'[log out of sessions whose node.startup is WHICH, or all]:which:(all manual automatic)'
                '(-s --stats)'{-s,--stats}'[print statistics]'
                '(-d --debug)'{-d+,--debug=}'[tell the steps on the way: 0 to 8]:level:(0 1 2 3 4 5 6 7 8)'
                '(-S --show)'{-S,--show}'[print secrets instead of stars]'
                '(-W --no_wait)'{-W,--no_wait}'[do not wait for the login]'
                --json'[print one JSON document]'
                --wait-device'[end when the disks of a new session are there]'
                --force'[also end a session the system stands on]'
                --timeout='[give up after this time]:seconds: '
            )
            ;;
        session)
            options=(
                '(-m --mode)'{-m+,--mode=}'[discovery, discoverydb, node, session, iface, fw or host]:mode:(discovery discoverydb node session iface fw host)'
                '*'{-o+,--op=}'[what to do with records: new, delete, update, show, nonpersistent, apply, applyall, login, logout]:operation:_iscsiadm_op'
                '*'{-n+,--name=}'[a parameter of a record, with --value]:name:_iscsiadm_name'
                '*'{-v+,--value=}'[the value of the parameter before it]:value:_iscsiadm_value'
                '(-r --sid)'{-r+,--sid=}'[a session by number or by its path in sysfs]:sid:_iscsiadm_sid'
                '(-R --rescan)'{-R,--rescan}'[look for new disks and new sizes]'
                '(-P --print)'{-P+,--print=}'[how much to print: a tree from 1 on]:level:_iscsiadm_print'
                '(-u --logout)'{-u,--logout}'[log out]'
                '(-s --stats)'{-s,--stats}'[print statistics]'
                '(-d --debug)'{-d+,--debug=}'[tell the steps on the way: 0 to 8]:level:(0 1 2 3 4 5 6 7 8)'
                '(-S --show)'{-S,--show}'[print secrets instead of stars]'
                '(-i --interval)'{-i+,--interval=}'[time between pings]:seconds: '
                --json'[print one JSON document]'
                --wait-device'[end when the disks of a new session are there]'
                --force'[also end a session the system stands on]'
                --timeout='[give up after this time]:seconds: '
            )
            ;;
        iface)
            options=(
                '(-m --mode)'{-m+,--mode=}'[discovery, discoverydb, node, session, iface, fw or host]:mode:(discovery discoverydb node session iface fw host)'
                '*'{-I+,--interface=}'[an interface record]:iface:_iscsiadm_interface'
                '*'{-o+,--op=}'[what to do with records: new, delete, update, show, nonpersistent, apply, applyall, login, logout]:operation:_iscsiadm_op'
                '*'{-n+,--name=}'[a parameter of a record, with --value]:name:_iscsiadm_name'
                '*'{-v+,--value=}'[the value of the parameter before it]:value:_iscsiadm_value'
                '(-H --host)'{-H+,--host=}'[a SCSI host by number or MAC address]:host:_iscsiadm_host'
                '(-P --print)'{-P+,--print=}'[how much to print: a tree from 1 on]:level:_iscsiadm_print'
                '(-d --debug)'{-d+,--debug=}'[tell the steps on the way: 0 to 8]:level:(0 1 2 3 4 5 6 7 8)'
                '(-C --submode)'{-C+,--submode=}'[ping (iface); chap, flashnode or stats (host)]:submode:_iscsiadm_submode'
                '(-a --ip)'{-a+,--ip=}'[where a ping goes]:address: '
                '(-b --packetsize)'{-b+,--packetsize=}'[size of a ping]:bytes: '
                '(-c --count)'{-c+,--count=}'[number of pings]:count: '
                '(-i --interval)'{-i+,--interval=}'[time between pings]:seconds: '
                --json'[print one JSON document]'
            )
            ;;
        fw)
            options=(
                '(-m --mode)'{-m+,--mode=}'[discovery, discoverydb, node, session, iface, fw or host]:mode:(discovery discoverydb node session iface fw host)'
                '*'{-n+,--name=}'[a parameter of a record, with --value]:name:_iscsiadm_name'
                '*'{-v+,--value=}'[the value of the parameter before it]:value:_iscsiadm_value'
                '(-l --login)'{-l,--login}'[log in]'
                '(-d --debug)'{-d+,--debug=}'[tell the steps on the way: 0 to 8]:level:(0 1 2 3 4 5 6 7 8)'
                '(-W --no_wait)'{-W,--no_wait}'[do not wait for the login]'
                --json'[print one JSON document]'
                --wait-device'[end when the disks of a new session are there]'
                --timeout='[give up after this time]:seconds: '
            )
            ;;
        host)
            options=(
                '(-m --mode)'{-m+,--mode=}'[discovery, discoverydb, node, session, iface, fw or host]:mode:(discovery discoverydb node session iface fw host)'
                '*'{-o+,--op=}'[what to do with records: new, delete, update, show, nonpersistent, apply, applyall, login, logout]:operation:_iscsiadm_op'
                '(-t --type)'{-t+,--type=}'[way of discovery: sendtargets (st), isns or fw]:type:(sendtargets st isns fw)'
                '*'{-n+,--name=}'[a parameter of a record, with --value]:name:_iscsiadm_name'
                '*'{-v+,--value=}'[the value of the parameter before it]:value:_iscsiadm_value'
                '(-H --host)'{-H+,--host=}'[a SCSI host by number or MAC address]:host:_iscsiadm_host'
                '(-P --print)'{-P+,--print=}'[how much to print: a tree from 1 on]:level:_iscsiadm_print'
                '(-d --debug)'{-d+,--debug=}'[tell the steps on the way: 0 to 8]:level:(0 1 2 3 4 5 6 7 8)'
                '(-C --submode)'{-C+,--submode=}'[ping (iface); chap, flashnode or stats (host)]:submode:_iscsiadm_submode'
                '(-x --index)'{-x+,--index=}'[an entry of the CHAP or flashnode table]:index: '
                '(-A --portal_type)'{-A+,--portal_type=}'[ipv4 or ipv6 of a new flashnode entry]:family:(ipv4 ipv6)'
                --json'[print one JSON document]'
            )
            ;;
        *)
            options=(
                '(-m --mode)'{-m+,--mode=}'[discovery, discoverydb, node, session, iface, fw or host]:mode:(discovery discoverydb node session iface fw host)'
                '*'{-n+,--name=}'[a parameter of a record, with --value]:name:_iscsiadm_name'
                '*'{-v+,--value=}'[the value of the parameter before it]:value:_iscsiadm_value'
                '(-k --killiscsid)'{-k+,--killiscsid=}'[stop iscsid at once]:0:(0)'
                '(-d --debug)'{-d+,--debug=}'[tell the steps on the way: 0 to 8]:level:(0 1 2 3 4 5 6 7 8)'
                '(-V --version)'{-V,--version}'[print the version]'
                '(-h --help)'{-h,--help}'[print this text]'
                --json'[print one JSON document]'
            )
            ;;
    esac
}
_iscsiadm() {
    local database=${_iscsiadm_etc:-/etc/iscsi} sysfs=${_iscsiadm_sys:-/sys} mode target name curcontext=$curcontext
    local -a options
    local -i at
    [[ -d $database/nodes || ! -d /var/lib/iscsi || -n $_iscsiadm_etc ]] || database=/var/lib/iscsi
    for ((at = 2; at < CURRENT; at++)); do
        case ${words[at]} in
            -m | --mode) mode=${words[at + 1]} ;;
            -m?*) mode=${words[at]#-m} ;;
            --mode=*) mode=${words[at]#--mode=} ;;
            -T | --targetname) target=${(Q)words[at + 1]} ;;
            --targetname=*) target=${(Q)words[at]#--targetname=} ;;
            -n | --name) name=${(Q)words[at + 1]} ;;
            --name=*) name=${(Q)words[at]#--name=} ;;
        esac
    done
    # What is still being typed is no mode yet.
    [[ $mode == (discovery|discoverydb|node|session|iface|fw|host) ]] || mode=
    _iscsiadm_specs
    _arguments -s -S $options
}

_iscsiadm "$@"
