//! `-h` and `-v`.

/// `-v`: scripts look for the versions.
pub const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n";

/// `-h`.
pub const HELP: &str = "\
ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)
This is shunt, a director of its own: it takes ipvsadm's command line and changes the running director, not the kernel.
Usage:
  ipvsadm -A|-E SERVICE [-s SCHEDULER] [-p [SECONDS]] [-M NETMASK] [--pe ENGINE] [-b FLAGS] [-o]
  ipvsadm -D SERVICE
  ipvsadm -a|-e SERVICE -r HOST[:PORT] [-g|-i|-m] [-w WEIGHT] [-x UPPER] [-y LOWER] [TUNNEL]
  ipvsadm -d SERVICE -r HOST[:PORT]
  ipvsadm -L|-l [SERVICE] [-n] [--stats|--rate|--thresholds|--persistent-conn|--tun-info] [--exact] [--nosort]
  ipvsadm -L|-l -c|--timeout|--daemon [-n]
  ipvsadm -Z [SERVICE]
  ipvsadm -C | -R | -S [-n] | -h | -v
  ipvsadm --set TCP TCPFIN UDP
  ipvsadm --start-daemon|--stop-daemon master|backup

Commands (the first word):
  -A, --add-service     a new virtual service         -a, --add-server      a new real server of a service
  -E, --edit-service    other values for one          -e, --edit-server     other values for one
  -D, --delete-service  without it                    -d, --delete-server   without it
  -C, --clear           without any service           -Z, --zero            counters begin at 0 again
  -S, --save            services as lines for -R      -R, --restore         a command from each line of the input
  -L, -l, --list        what there is                 --set                 seconds that connections live, 0 to keep
  --start-daemon, --stop-daemon   state synchronisation, which this director does not have yet

SERVICE:
  -t, --tcp-service HOST[:PORT]     -u, --udp-service HOST[:PORT]     --sctp-service HOST[:PORT]
  -f, --fwmark-service MARK [-6, --ipv6]

Of a service:
  -s, --scheduler     rr, wrr, lc, wlc (when none is named), lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh
  -b, --sched-flags   sh-fallback, sh-port, mh-fallback, mh-port, flag-1, flag-2, flag-3, with commas between
  -p, --persistent    a client stays with its real server for so many seconds, 360 when none are given
  -M, --netmask       clients of one network count as one
  --pe                another way to tell clients apart: sip
  -o, --ops           each packet by itself

Of a real server:
  -r, --real-server   its address, and its port where -m changes it
  -g, --gatewaying    by its MAC (when nothing is said)
  -i, --ipip          in a tunnel     --tun-type ipip|gue|gre  --tun-port PORT  --tun-nocsum|--tun-csum|--tun-remcsum
  -m, --masquerading  by NAT
  -w, --weight        its share; 0 for no new connections
  -x, --u-threshold   no new connections above so many
  -y, --l-threshold   new ones again below so many

Of a list:
  -n, --numeric       numbers instead of names        --exact           all digits
  -c, --connection    connections                     --nosort          as they come
  --stats, --rate     counted, and in a second        --timeout         what --set changes
  --thresholds        -x and -y                       --persistent-conn persistence templates
  --tun-info          tunnels                         --daemon          state synchronisation

The running director is found at /run/shunt.sock, or where SHUNT_SOCKET says.
";
