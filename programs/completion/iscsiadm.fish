# SPDX-License-Identifier: LGPL-2.1-or-later
# fish completion of iscsiadm. Made from iscsiboot/admin/options.py and iscsiboot/database/keys.py by
# "python3 -m tools.manual"; change those, not this file.

function __iscsiadm_database
    if set -q _iscsiadm_etc
        echo $_iscsiadm_etc
    else if test -d /var/lib/iscsi; and not test -d /etc/iscsi/nodes
        echo /var/lib/iscsi
    else
        echo /etc/iscsi
    end
end

# The last value given to an option: its letter, its long name.
function __iscsiadm_given
    set -l words (commandline -opc)
    set -l found
    for at in (seq 2 (count $words))
        switch $words[$at]
            case "-$argv[1]" "--$argv[2]"
                set found $words[(math $at + 1)]
            case "--$argv[2]=*"
                set found (string replace -- "--$argv[2]=" '' $words[$at])
            case "-$argv[1]*"
                set found (string sub -s 3 -- $words[$at])
        end
    end
    printf '%s\n' $found
end

function __iscsiadm_in
    contains -- (__iscsiadm_given m mode) $argv
end

function __iscsiadm_targetname
    set -l paths (__iscsiadm_database)/nodes/*
    string replace -r '.*/' '' -- $paths
end

# nodes/TARGET/ADDRESS,PORT,TAG and send_targets/ADDRESS,PORT; portals as -p takes them.
function __iscsiadm_portal
    set -l database (__iscsiadm_database)
    set -l paths
    if __iscsiadm_in node
        set -l target (__iscsiadm_given T targetname)
        if test -n "$target"
            set paths $database/nodes/$target/*
        else
            set paths $database/nodes/*/*
        end
    else
        set paths $database/send_targets/* $database/isns/*
    end
    for portal in (string replace -r '.*/' '' -- $paths)
        set -l parts (string split , -- $portal)
        test (count $parts) -ge 2; or continue
        string match -q '*:*' -- $parts[1]; and set parts[1] "[$parts[1]]"
        echo "$parts[1]:$parts[2]"
    end
end

function __iscsiadm_interface
    printf '%s\n' default iser
    set -l paths (__iscsiadm_database)/ifaces/*
    string replace -r '.*/' '' -- $paths
end

function __iscsiadm_sysfs
    set -q _iscsiadm_sys; and echo $_iscsiadm_sys; or echo /sys
end

function __iscsiadm_sid
    set -l paths (__iscsiadm_sysfs)/class/iscsi_session/session*
    string replace -r '.*/session' '' -- $paths
end

function __iscsiadm_host
    set -l paths (__iscsiadm_sysfs)/class/iscsi_host/host*
    string replace -r '.*/host' '' -- $paths
end

function __iscsiadm_op
    switch (__iscsiadm_given m mode)
        case discovery
            printf '%s\n' new delete update nonpersistent show
        case discoverydb
            printf '%s\n' new delete update nonpersistent show
        case node
            printf '%s\n' new delete update show
        case session
            printf '%s\n' new delete update show
        case iface
            printf '%s\n' new delete update show apply applyall
        case host
            printf '%s\n' new delete update show login logout
    end
end

function __iscsiadm_submode
    switch (__iscsiadm_given m mode)
        case iface
            printf '%s\n' ping
        case host
            printf '%s\n' chap flashnode stats
    end
end

function __iscsiadm_print
    switch (__iscsiadm_given m mode)
        case discovery
            printf '%s\n' 0 1
        case discoverydb
            printf '%s\n' 0 1
        case node
            printf '%s\n' 0 1
        case session
            printf '%s\n' 0 1 2 3
        case iface
            printf '%s\n' 0 1
        case host
            printf '%s\n' 0 1 2 3 4
    end
end

function __iscsiadm_name
    switch (__iscsiadm_given m mode)
        case node
            printf '%s\n' node.startup node.leading_login node.session.initial_cmdsn node.session.initial_login_retry_max node.session.xmit_thread_priority node.session.cmds_max node.session.queue_depth node.session.nr_sessions node.session.auth.authmethod node.session.auth.username node.session.auth.password node.session.auth.username_in node.session.auth.password_in node.session.auth.chap_algs node.session.timeo.replacement_timeout node.session.err_timeo.abort_timeout node.session.err_timeo.lu_reset_timeout node.session.err_timeo.tgt_reset_timeout node.session.err_timeo.host_reset_timeout node.session.iscsi.FastAbort node.session.iscsi.InitialR2T node.session.iscsi.ImmediateData node.session.iscsi.FirstBurstLength node.session.iscsi.MaxBurstLength node.session.iscsi.DefaultTime2Retain node.session.iscsi.DefaultTime2Wait node.session.iscsi.MaxConnections node.session.iscsi.MaxOutstandingR2T node.session.iscsi.ERL node.session.scan node.session.reopen_max node.session.sess_reopen_log_freq 'node.conn[0].startup' 'node.conn[0].tcp.window_size' 'node.conn[0].tcp.type_of_service' 'node.conn[0].tcp.congestion_control' 'node.conn[0].timeo.logout_timeout' 'node.conn[0].timeo.login_timeout' 'node.conn[0].timeo.auth_timeout' 'node.conn[0].timeo.noop_out_interval' 'node.conn[0].timeo.noop_out_timeout' 'node.conn[0].iscsi.MaxXmitDataSegmentLength' 'node.conn[0].iscsi.MaxRecvDataSegmentLength' 'node.conn[0].iscsi.HeaderDigest' 'node.conn[0].iscsi.DataDigest' 'node.conn[0].iscsi.IFMarker' 'node.conn[0].iscsi.OFMarker' node.transport_name iface.transport_name
        case session
            printf '%s\n' node.startup node.leading_login node.session.initial_cmdsn node.session.initial_login_retry_max node.session.xmit_thread_priority node.session.cmds_max node.session.queue_depth node.session.nr_sessions node.session.auth.authmethod node.session.auth.username node.session.auth.password node.session.auth.username_in node.session.auth.password_in node.session.auth.chap_algs node.session.timeo.replacement_timeout node.session.err_timeo.abort_timeout node.session.err_timeo.lu_reset_timeout node.session.err_timeo.tgt_reset_timeout node.session.err_timeo.host_reset_timeout node.session.iscsi.FastAbort node.session.iscsi.InitialR2T node.session.iscsi.ImmediateData node.session.iscsi.FirstBurstLength node.session.iscsi.MaxBurstLength node.session.iscsi.DefaultTime2Retain node.session.iscsi.DefaultTime2Wait node.session.iscsi.MaxConnections node.session.iscsi.MaxOutstandingR2T node.session.iscsi.ERL node.session.scan node.session.reopen_max node.session.sess_reopen_log_freq 'node.conn[0].startup' 'node.conn[0].tcp.window_size' 'node.conn[0].tcp.type_of_service' 'node.conn[0].tcp.congestion_control' 'node.conn[0].timeo.logout_timeout' 'node.conn[0].timeo.login_timeout' 'node.conn[0].timeo.auth_timeout' 'node.conn[0].timeo.noop_out_interval' 'node.conn[0].timeo.noop_out_timeout' 'node.conn[0].iscsi.MaxXmitDataSegmentLength' 'node.conn[0].iscsi.MaxRecvDataSegmentLength' 'node.conn[0].iscsi.HeaderDigest' 'node.conn[0].iscsi.DataDigest' 'node.conn[0].iscsi.IFMarker' 'node.conn[0].iscsi.OFMarker'
        case fw
            printf '%s\n' node.startup node.leading_login node.session.initial_cmdsn node.session.initial_login_retry_max node.session.xmit_thread_priority node.session.cmds_max node.session.queue_depth node.session.nr_sessions node.session.auth.authmethod node.session.auth.username node.session.auth.password node.session.auth.username_in node.session.auth.password_in node.session.auth.chap_algs node.session.timeo.replacement_timeout node.session.err_timeo.abort_timeout node.session.err_timeo.lu_reset_timeout node.session.err_timeo.tgt_reset_timeout node.session.err_timeo.host_reset_timeout node.session.iscsi.FastAbort node.session.iscsi.InitialR2T node.session.iscsi.ImmediateData node.session.iscsi.FirstBurstLength node.session.iscsi.MaxBurstLength node.session.iscsi.DefaultTime2Retain node.session.iscsi.DefaultTime2Wait node.session.iscsi.MaxConnections node.session.iscsi.MaxOutstandingR2T node.session.iscsi.ERL node.session.scan node.session.reopen_max node.session.sess_reopen_log_freq 'node.conn[0].startup' 'node.conn[0].tcp.window_size' 'node.conn[0].tcp.type_of_service' 'node.conn[0].tcp.congestion_control' 'node.conn[0].timeo.logout_timeout' 'node.conn[0].timeo.login_timeout' 'node.conn[0].timeo.auth_timeout' 'node.conn[0].timeo.noop_out_interval' 'node.conn[0].timeo.noop_out_timeout' 'node.conn[0].iscsi.MaxXmitDataSegmentLength' 'node.conn[0].iscsi.MaxRecvDataSegmentLength' 'node.conn[0].iscsi.HeaderDigest' 'node.conn[0].iscsi.DataDigest' 'node.conn[0].iscsi.IFMarker' 'node.conn[0].iscsi.OFMarker'
        case iface
            printf '%s\n' iface.net_ifacename iface.ipaddress iface.prefix_len iface.hwaddress iface.transport_name iface.initiatorname iface.state iface.vlan_id iface.vlan_priority iface.vlan_state iface.iface_num iface.mtu iface.port iface.bootproto iface.subnet_mask iface.gateway iface.dhcp_alt_client_id_state iface.dhcp_alt_client_id iface.dhcp_dns iface.dhcp_learn_iqn iface.dhcp_req_vendor_id_state iface.dhcp_vendor_id_state iface.dhcp_vendor_id iface.dhcp_slp_da iface.fragmentation iface.gratuitous_arp iface.incoming_forwarding iface.tos_state iface.tos iface.ttl iface.ipv6_autocfg iface.linklocal_autocfg iface.router_autocfg iface.ipv6_linklocal iface.ipv6_router iface.dup_addr_detect_cnt iface.flow_label iface.gratuitous_neighbor_adv iface.hop_limit iface.mld iface.nd_reachable_tmo iface.nd_rexmit_time iface.nd_stale_tmo iface.router_adv_link_mtu iface.traffic_class iface.delayed_ack iface.tcp_nagle iface.tcp_wsf_state iface.tcp_wsf iface.tcp_timer_scale iface.tcp_timestamp iface.redirect iface.def_task_mgmt_timeout iface.header_digest iface.data_digest iface.immediate_data iface.initial_r2t iface.data_seq_inorder iface.data_pdu_inorder iface.erl iface.max_receive_data_len iface.first_burst_len iface.max_outstanding_r2t iface.max_burst_len iface.chap_auth iface.bidi_chap iface.strict_login_compliance iface.discovery_auth iface.discovery_logout
        case discoverydb
            printf '%s\n' discovery.startup discovery.sendtargets.auth.authmethod discovery.sendtargets.auth.username discovery.sendtargets.auth.password discovery.sendtargets.auth.username_in discovery.sendtargets.auth.password_in node.session.auth.chap_algs discovery.sendtargets.timeo.login_timeout discovery.sendtargets.use_discoveryd discovery.sendtargets.discoveryd_poll_inval discovery.sendtargets.reopen_max discovery.sendtargets.timeo.auth_timeout discovery.sendtargets.timeo.active_timeout discovery.sendtargets.iscsi.MaxRecvDataSegmentLength discovery.isns.use_discoveryd discovery.isns.discoveryd_poll_inval
    end
end

function __iscsiadm_value
    switch (__iscsiadm_given n name)
        case iscsid.safe_logout iscsid.ipc_auth_uid discovery.isns.use_discoveryd discovery.sendtargets.use_discoveryd node.leading_login node.session.iscsi.FastAbort node.session.iscsi.InitialR2T node.session.iscsi.ImmediateData 'node.conn[0].iscsi.IFMarker' 'node.conn[0].iscsi.OFMarker'
            printf '%s\n' No Yes
        case discovery.startup
            printf '%s\n' manual automatic
        case discovery.sendtargets.auth.authmethod node.session.auth.authmethod
            printf '%s\n' None CHAP
        case node.session.auth.chap_algs
            printf '%s\n' MD5 SHA1 SHA256 SHA3-256
        case node.startup 'node.conn[0].startup'
            printf '%s\n' manual automatic onboot
        case node.session.scan
            printf '%s\n' manual auto
        case 'node.conn[0].iscsi.HeaderDigest' 'node.conn[0].iscsi.DataDigest'
            printf '%s\n' None CRC32C 'CRC32C,None' 'None,CRC32C'
    end
end

complete -c iscsiadm -f
complete -c iscsiadm -s m -l mode -x -a 'discovery discoverydb node session iface fw host' -d 'discovery, discoverydb, node, session, iface, fw or host'
complete -c iscsiadm -n '__iscsiadm_in discovery discoverydb node' -s p -l portal -x -a '(__iscsiadm_portal)' -d 'address[:port][,tag]; IPv6 as [address]:port'
complete -c iscsiadm -n '__iscsiadm_in node' -s T -l targetname -x -a '(__iscsiadm_targetname)' -d 'the target\'s iSCSI name'
complete -c iscsiadm -n '__iscsiadm_in discovery discoverydb node iface' -s I -l interface -x -a '(__iscsiadm_interface)' -d 'an interface record'
complete -c iscsiadm -n '__iscsiadm_in discovery discoverydb node session iface host' -s o -l op -x -a '(__iscsiadm_op)' -d 'what to do with records: new, delete, update, show, nonpersistent, apply, applyall, login, logout'
complete -c iscsiadm -n '__iscsiadm_in discovery discoverydb host' -s t -l type -x -a 'sendtargets st isns fw' -d 'way of discovery: sendtargets (st), isns or fw'
complete -c iscsiadm -s n -l name -x -a '(__iscsiadm_name)' -d 'a parameter of a record, with --value'
complete -c iscsiadm -s v -l value -x -a '(__iscsiadm_value)' -d 'the value of the parameter before it'
complete -c iscsiadm -n '__iscsiadm_in iface host' -s H -l host -x -a '(__iscsiadm_host)' -d 'a SCSI host by number or MAC address'
complete -c iscsiadm -n '__iscsiadm_in session' -s r -l sid -x -a '(__iscsiadm_sid)' -d 'a session by number or by its path in sysfs'
complete -c iscsiadm -n '__iscsiadm_in node session' -s R -l rescan -d 'look for new disks and new sizes'
complete -c iscsiadm -n '__iscsiadm_in discovery discoverydb node session iface host' -s P -l print -x -a '(__iscsiadm_print)' -d 'how much to print: a tree from 1 on'
complete -c iscsiadm -n '__iscsiadm_in discovery discoverydb' -s D -l discover -d 'discover with a stored record'
complete -c iscsiadm -n '__iscsiadm_in discovery discoverydb node fw' -s l -l login -d 'log in'
complete -c iscsiadm -n '__iscsiadm_in node' -s L -l loginall -x -a 'all manual automatic onboot' -d 'log in to records whose node.startup is WHICH, or all'
complete -c iscsiadm -n '__iscsiadm_in node session' -s u -l logout -d 'log out'
complete -c iscsiadm -n '__iscsiadm_in node' -s U -l logoutall -x -a 'all manual automatic' -d 'log out of sessions whose node.startup is WHICH, or all'
complete -c iscsiadm -n '__iscsiadm_in node session' -s s -l stats -d 'print statistics'
complete -c iscsiadm -n 'test -z (__iscsiadm_given m mode)' -s k -l killiscsid -x -a '0' -d 'stop iscsid at once'
complete -c iscsiadm -s d -l debug -x -a '0 1 2 3 4 5 6 7 8' -d 'tell the steps on the way: 0 to 8'
complete -c iscsiadm -n '__iscsiadm_in discovery discoverydb node session' -s S -l show -d 'print secrets instead of stars'
complete -c iscsiadm -n 'test -z (__iscsiadm_given m mode)' -s V -l version -d 'print the version'
complete -c iscsiadm -n 'test -z (__iscsiadm_given m mode)' -s h -l help -d 'print this text'
complete -c iscsiadm -n '__iscsiadm_in iface host' -s C -l submode -x -a '(__iscsiadm_submode)' -d 'ping (iface); chap, flashnode or stats (host)'
complete -c iscsiadm -n '__iscsiadm_in iface' -s a -l ip -x -d 'where a ping goes'
complete -c iscsiadm -n '__iscsiadm_in iface' -s b -l packetsize -x -d 'size of a ping'
complete -c iscsiadm -n '__iscsiadm_in iface' -s c -l count -x -d 'number of pings'
complete -c iscsiadm -n '__iscsiadm_in session iface' -s i -l interval -x -d 'time between pings'
complete -c iscsiadm -n '__iscsiadm_in host' -s x -l index -x -d 'an entry of the CHAP or flashnode table'
complete -c iscsiadm -n '__iscsiadm_in host' -s A -l portal_type -x -a 'ipv4 ipv6' -d 'ipv4 or ipv6 of a new flashnode entry'
complete -c iscsiadm -n '__iscsiadm_in node fw' -s W -l no_wait -d 'do not wait for the login'
complete -c iscsiadm -l json -d 'print one JSON document'
complete -c iscsiadm -n '__iscsiadm_in discovery discoverydb node session fw' -l wait-device -d 'end when the disks of a new session are there'
complete -c iscsiadm -n '__iscsiadm_in node session' -l force -d 'also end a session the system stands on'
complete -c iscsiadm -n '__iscsiadm_in discovery discoverydb node session fw' -l timeout -x -d 'give up after this time'
