# SPDX-License-Identifier: LGPL-2.1-or-later
# bash completion of iscsiadm. Made from iscsiboot/admin/options.py and iscsiboot/database/keys.py by
# "python3 -m tools.manual"; change those, not this file.
#
# Names of records come from the network: they are compared and quoted here, never expanded. No process is started.

_iscsiadm_with_value='mode portal targetname interface op type name value host sid print loginall logoutall killiscsid debug submode ip packetsize count interval index portal_type timeout'

# The long name of a letter that takes a value, in REPLY.
_iscsiadm_long() {
    case $1 in
        m) REPLY='mode' ;;
        p) REPLY='portal' ;;
        T) REPLY='targetname' ;;
        I) REPLY='interface' ;;
        o) REPLY='op' ;;
        t) REPLY='type' ;;
        n) REPLY='name' ;;
        v) REPLY='value' ;;
        H) REPLY='host' ;;
        r) REPLY='sid' ;;
        P) REPLY='print' ;;
        L) REPLY='loginall' ;;
        U) REPLY='logoutall' ;;
        k) REPLY='killiscsid' ;;
        d) REPLY='debug' ;;
        C) REPLY='submode' ;;
        a) REPLY='ip' ;;
        b) REPLY='packetsize' ;;
        c) REPLY='count' ;;
        i) REPLY='interval' ;;
        x) REPLY='index' ;;
        A) REPLY='portal_type' ;;
        *) return 1 ;;
    esac
}

_iscsiadm_options() {
    case $mode in
        discovery)
            found=(-p -I -o -t -n -v -P -D -l -d -S --portal --interface --op --type --name --value --print --discover --login --debug --show --json --wait-device --timeout)
            ;;
        discoverydb)
            found=(-p -I -o -t -n -v -P -D -l -d -S --portal --interface --op --type --name --value --print --discover --login --debug --show --json --wait-device --timeout)
            ;;
        node)
            found=(-p -T -I -o -n -v -R -P -l -L -u -U -s -d -S -W --portal --targetname --interface --op --name --value --rescan --print --login --loginall --logout --logoutall --stats --debug --show --no_wait --json --wait-device --force --timeout)
            ;;
        session)
            found=(-o -n -v -r -R -P -u -s -d -S -i --op --name --value --sid --rescan --print --logout --stats --debug --show --interval --json --wait-device --force --timeout)
            ;;
        iface)
            found=(-I -o -n -v -H -P -d -C -a -b -c -i --interface --op --name --value --host --print --debug --submode --ip --packetsize --count --interval --json)
            ;;
        fw)
            found=(-n -v -l -d -W --name --value --login --debug --no_wait --json --wait-device --timeout)
            ;;
        host)
            found=(-o -t -n -v -H -P -d -C -x -A --op --type --name --value --host --print --debug --submode --index --portal_type --json)
            ;;
        *)
            found=(-m -n -v -k -d -V -h --mode --name --value --killiscsid --debug --version --help --json)
            ;;
    esac
}

# Values that are no records: by option, by mode, and for -v by the name before it.
_iscsiadm_fixed() {
    case $1:$mode in
        mode:*) found=(discovery discoverydb node session iface fw host) ;;
        type:*) found=(sendtargets st isns fw) ;;
        loginall:*) found=(all manual automatic onboot) ;;
        logoutall:*) found=(all manual automatic) ;;
        killiscsid:*) found=(0) ;;
        debug:*) found=(0 1 2 3 4 5 6 7 8) ;;
        portal_type:*) found=(ipv4 ipv6) ;;
        op:discovery)
            found=(new delete update nonpersistent show)
            ;;
        op:discoverydb)
            found=(new delete update nonpersistent show)
            ;;
        op:node)
            found=(new delete update show)
            ;;
        op:session)
            found=(new delete update show)
            ;;
        op:iface)
            found=(new delete update show apply applyall)
            ;;
        op:host)
            found=(new delete update show login logout)
            ;;
        submode:iface)
            found=(ping)
            ;;
        submode:host)
            found=(chap flashnode stats)
            ;;
        print:discovery)
            found=(0 1)
            ;;
        print:discoverydb)
            found=(0 1)
            ;;
        print:node)
            found=(0 1)
            ;;
        print:session)
            found=(0 1 2 3)
            ;;
        print:iface)
            found=(0 1)
            ;;
        print:host)
            found=(0 1 2 3 4)
            ;;
        name:node)
            found=(node.startup node.leading_login node.session.initial_cmdsn node.session.initial_login_retry_max node.session.xmit_thread_priority node.session.cmds_max node.session.queue_depth node.session.nr_sessions node.session.auth.authmethod node.session.auth.username node.session.auth.password node.session.auth.username_in node.session.auth.password_in node.session.auth.chap_algs node.session.timeo.replacement_timeout node.session.err_timeo.abort_timeout node.session.err_timeo.lu_reset_timeout node.session.err_timeo.tgt_reset_timeout node.session.err_timeo.host_reset_timeout node.session.iscsi.FastAbort node.session.iscsi.InitialR2T node.session.iscsi.ImmediateData node.session.iscsi.FirstBurstLength node.session.iscsi.MaxBurstLength node.session.iscsi.DefaultTime2Retain node.session.iscsi.DefaultTime2Wait node.session.iscsi.MaxConnections node.session.iscsi.MaxOutstandingR2T node.session.iscsi.ERL node.session.scan node.session.reopen_max node.session.sess_reopen_log_freq 'node.conn[0].startup' 'node.conn[0].tcp.window_size' 'node.conn[0].tcp.type_of_service' 'node.conn[0].tcp.congestion_control' 'node.conn[0].timeo.logout_timeout' 'node.conn[0].timeo.login_timeout' 'node.conn[0].timeo.auth_timeout' 'node.conn[0].timeo.noop_out_interval' 'node.conn[0].timeo.noop_out_timeout' 'node.conn[0].iscsi.MaxXmitDataSegmentLength' 'node.conn[0].iscsi.MaxRecvDataSegmentLength' 'node.conn[0].iscsi.HeaderDigest' 'node.conn[0].iscsi.DataDigest' 'node.conn[0].iscsi.IFMarker' 'node.conn[0].iscsi.OFMarker' node.transport_name iface.transport_name)
            ;;
        name:session)
            found=(node.startup node.leading_login node.session.initial_cmdsn node.session.initial_login_retry_max node.session.xmit_thread_priority node.session.cmds_max node.session.queue_depth node.session.nr_sessions node.session.auth.authmethod node.session.auth.username node.session.auth.password node.session.auth.username_in node.session.auth.password_in node.session.auth.chap_algs node.session.timeo.replacement_timeout node.session.err_timeo.abort_timeout node.session.err_timeo.lu_reset_timeout node.session.err_timeo.tgt_reset_timeout node.session.err_timeo.host_reset_timeout node.session.iscsi.FastAbort node.session.iscsi.InitialR2T node.session.iscsi.ImmediateData node.session.iscsi.FirstBurstLength node.session.iscsi.MaxBurstLength node.session.iscsi.DefaultTime2Retain node.session.iscsi.DefaultTime2Wait node.session.iscsi.MaxConnections node.session.iscsi.MaxOutstandingR2T node.session.iscsi.ERL node.session.scan node.session.reopen_max node.session.sess_reopen_log_freq 'node.conn[0].startup' 'node.conn[0].tcp.window_size' 'node.conn[0].tcp.type_of_service' 'node.conn[0].tcp.congestion_control' 'node.conn[0].timeo.logout_timeout' 'node.conn[0].timeo.login_timeout' 'node.conn[0].timeo.auth_timeout' 'node.conn[0].timeo.noop_out_interval' 'node.conn[0].timeo.noop_out_timeout' 'node.conn[0].iscsi.MaxXmitDataSegmentLength' 'node.conn[0].iscsi.MaxRecvDataSegmentLength' 'node.conn[0].iscsi.HeaderDigest' 'node.conn[0].iscsi.DataDigest' 'node.conn[0].iscsi.IFMarker' 'node.conn[0].iscsi.OFMarker')
            ;;
        name:fw)
            found=(node.startup node.leading_login node.session.initial_cmdsn node.session.initial_login_retry_max node.session.xmit_thread_priority node.session.cmds_max node.session.queue_depth node.session.nr_sessions node.session.auth.authmethod node.session.auth.username node.session.auth.password node.session.auth.username_in node.session.auth.password_in node.session.auth.chap_algs node.session.timeo.replacement_timeout node.session.err_timeo.abort_timeout node.session.err_timeo.lu_reset_timeout node.session.err_timeo.tgt_reset_timeout node.session.err_timeo.host_reset_timeout node.session.iscsi.FastAbort node.session.iscsi.InitialR2T node.session.iscsi.ImmediateData node.session.iscsi.FirstBurstLength node.session.iscsi.MaxBurstLength node.session.iscsi.DefaultTime2Retain node.session.iscsi.DefaultTime2Wait node.session.iscsi.MaxConnections node.session.iscsi.MaxOutstandingR2T node.session.iscsi.ERL node.session.scan node.session.reopen_max node.session.sess_reopen_log_freq 'node.conn[0].startup' 'node.conn[0].tcp.window_size' 'node.conn[0].tcp.type_of_service' 'node.conn[0].tcp.congestion_control' 'node.conn[0].timeo.logout_timeout' 'node.conn[0].timeo.login_timeout' 'node.conn[0].timeo.auth_timeout' 'node.conn[0].timeo.noop_out_interval' 'node.conn[0].timeo.noop_out_timeout' 'node.conn[0].iscsi.MaxXmitDataSegmentLength' 'node.conn[0].iscsi.MaxRecvDataSegmentLength' 'node.conn[0].iscsi.HeaderDigest' 'node.conn[0].iscsi.DataDigest' 'node.conn[0].iscsi.IFMarker' 'node.conn[0].iscsi.OFMarker')
            ;;
        name:iface)
            found=(iface.net_ifacename iface.ipaddress iface.prefix_len iface.hwaddress iface.transport_name iface.initiatorname iface.state iface.vlan_id iface.vlan_priority iface.vlan_state iface.iface_num iface.mtu iface.port iface.bootproto iface.subnet_mask iface.gateway iface.dhcp_alt_client_id_state iface.dhcp_alt_client_id iface.dhcp_dns iface.dhcp_learn_iqn iface.dhcp_req_vendor_id_state iface.dhcp_vendor_id_state iface.dhcp_vendor_id iface.dhcp_slp_da iface.fragmentation iface.gratuitous_arp iface.incoming_forwarding iface.tos_state iface.tos iface.ttl iface.ipv6_autocfg iface.linklocal_autocfg iface.router_autocfg iface.ipv6_linklocal iface.ipv6_router iface.dup_addr_detect_cnt iface.flow_label iface.gratuitous_neighbor_adv iface.hop_limit iface.mld iface.nd_reachable_tmo iface.nd_rexmit_time iface.nd_stale_tmo iface.router_adv_link_mtu iface.traffic_class iface.delayed_ack iface.tcp_nagle iface.tcp_wsf_state iface.tcp_wsf iface.tcp_timer_scale iface.tcp_timestamp iface.redirect iface.def_task_mgmt_timeout iface.header_digest iface.data_digest iface.immediate_data iface.initial_r2t iface.data_seq_inorder iface.data_pdu_inorder iface.erl iface.max_receive_data_len iface.first_burst_len iface.max_outstanding_r2t iface.max_burst_len iface.chap_auth iface.bidi_chap iface.strict_login_compliance iface.discovery_auth iface.discovery_logout)
            ;;
        name:discoverydb)
            found=(discovery.startup discovery.sendtargets.auth.authmethod discovery.sendtargets.auth.username discovery.sendtargets.auth.password discovery.sendtargets.auth.username_in discovery.sendtargets.auth.password_in node.session.auth.chap_algs discovery.sendtargets.timeo.login_timeout discovery.sendtargets.use_discoveryd discovery.sendtargets.discoveryd_poll_inval discovery.sendtargets.reopen_max discovery.sendtargets.timeo.auth_timeout discovery.sendtargets.timeo.active_timeout discovery.sendtargets.iscsi.MaxRecvDataSegmentLength discovery.isns.use_discoveryd discovery.isns.discoveryd_poll_inval)
            ;;
        value:*)
            case $name in
                'iscsid.safe_logout' | 'iscsid.ipc_auth_uid' | 'discovery.isns.use_discoveryd' | 'discovery.sendtargets.use_discoveryd' | 'node.leading_login' | 'node.session.iscsi.FastAbort' | 'node.session.iscsi.InitialR2T' | 'node.session.iscsi.ImmediateData' | 'node.conn[0].iscsi.IFMarker' | 'node.conn[0].iscsi.OFMarker')
                    found=(No Yes)
                    ;;
                'discovery.startup')
                    found=(manual automatic)
                    ;;
                'discovery.sendtargets.auth.authmethod' | 'node.session.auth.authmethod')
                    found=(None CHAP)
                    ;;
                'node.session.auth.chap_algs')
                    found=(MD5 SHA1 SHA256 SHA3-256)
                    ;;
                'node.startup' | 'node.conn[0].startup')
                    found=(manual automatic onboot)
                    ;;
                'node.session.scan')
                    found=(manual auto)
                    ;;
                'node.conn[0].iscsi.HeaderDigest' | 'node.conn[0].iscsi.DataDigest')
                    found=(None CRC32C 'CRC32C,None' 'None,CRC32C')
                    ;;
            esac
            ;;
    esac
}

# What the command line up to the cursor says: option is the one whose value is being typed.
_iscsiadm_read() {
    local letters rest index
    local -i at
    option=''
    for ((at = 1; at < ${#words[@]}; at++)); do
        rest=${words[at]}
        option=''
        if [[ $rest == --*=* ]]; then
            _iscsiadm_seen "${rest%%=*}" "${rest#*=}"
        elif [[ $rest == --* ]]; then
            _iscsiadm_takes_value "$rest" && option=${rest#--}
        elif [[ $rest == -?* ]]; then
            letters=${rest#-}
            for ((index = 0; index < ${#letters}; index++)); do
                if _iscsiadm_long "${letters:index:1}"; then
                    option=$REPLY
                    break
                fi
            done
            if [[ $option && ${letters:index+1} ]]; then
                _iscsiadm_seen "--$option" "${letters:index+1}"
                option=''
            fi
        fi
        if [[ $option && at -lt ${#words[@]}-1 ]]; then
            at+=1
            _iscsiadm_seen "--$option" "${words[at]}"
            option=''
        fi
    done
}

_iscsiadm_seen() {
    case $1 in
        --mode) mode=$2 ;;
        --targetname) target=${2//[\\\'\"]/} ;;
        --name) name=${2//[\\\'\"]/} ;;
    esac
}

_iscsiadm_takes_value() {
    [[ " $_iscsiadm_with_value " == *" ${1#--} "* ]]
}

# Records: nodes/TARGET/ADDRESS,PORT,TAG and send_targets/ADDRESS,PORT; portals as -p takes them.
_iscsiadm_portals() {
    local path portal address port
    for path in "$@"; do
        portal=${path##*/}
        address=${portal%%,*}
        port=${portal#*,}
        port=${port%%,*}
        [[ $portal == *,* ]] || continue
        [[ $address == *:* ]] && address="[$address]"
        found+=("$address:$port")
    done
}

_iscsiadm_values() {
    local path restore='shopt -u nullglob'
    shopt -q nullglob && restore=:
    shopt -s nullglob
    case $1 in
        targetname) for path in "$database"/nodes/*; do found+=("${path##*/}"); done ;;
        portal)
            if [[ $mode == node ]]; then
                if [[ $target && -d $database/nodes/$target ]]; then
                    _iscsiadm_portals "$database/nodes/$target"/*
                else
                    _iscsiadm_portals "$database"/nodes/*/*
                fi
            else
                _iscsiadm_portals "$database"/send_targets/* "$database"/isns/*
            fi
            ;;
        interface)
            found=(default iser)
            for path in "$database"/ifaces/*; do found+=("${path##*/}"); done
            ;;
        sid) for path in "$sysfs"/class/iscsi_session/session*; do found+=("${path##*/session}"); done ;;
        host) for path in "$sysfs"/class/iscsi_host/host*; do found+=("${path##*/host}"); done ;;
        *) _iscsiadm_fixed "$1" ;;
    esac
    $restore
}

# Offers those of found that begin as the word does. Readline parts words at some characters, so what stands before
# the last of them is left out again.
_iscsiadm_offer() {
    local word breaks='' mark kept='' quoted=''
    local -A offered=()
    case $cur in
        [\'\"]*) quoted=yes cur=${cur:1} ;;
        *) cur=${cur//\\/} ;;
    esac
    for mark in : = @; do
        [[ $COMP_WORDBREAKS == *"$mark"* ]] && breaks+=$mark
    done
    [[ $breaks && ! $quoted ]] && kept=${cur%"${cur##*["$breaks"]}"}
    for word in "${found[@]}"; do
        [[ $word == "$cur"* && $word != *[![:print:]]* && ! ${offered[x$word]} ]] || continue
        offered[x$word]=yes
        word=${word#"$kept"}
        [[ $quoted ]] || printf -v word %q "$word"
        COMPREPLY+=("$front$word")
    done
}

_iscsiadm() {
    local database=${_iscsiadm_etc:-/etc/iscsi} sysfs=${_iscsiadm_sys:-/sys}
    local line=${COMP_LINE:0:COMP_POINT} cur='' front='' option mode='' target='' name='' REPLY
    local -a words found=()
    COMPREPLY=()
    [[ -d $database/nodes || ! -d /var/lib/iscsi || ${_iscsiadm_etc-} ]] || database=/var/lib/iscsi
    read -ra words <<<"$line"
    if [[ $line != *[[:space:]] && ${#words[@]} -gt 1 ]]; then
        cur=${words[${#words[@]} - 1]}
        unset "words[${#words[@]}-1]"
    fi
    _iscsiadm_read
    if [[ ! $option && $cur == --*=* ]]; then
        option=${cur%%=*}
        option=${option#--}
        [[ $COMP_WORDBREAKS == *=* ]] || front="--$option="
        cur=${cur#*=}
    fi
    if [[ $option ]]; then
        _iscsiadm_values "$option"
    else
        _iscsiadm_options
    fi
    _iscsiadm_offer
}

complete -F _iscsiadm iscsiadm
