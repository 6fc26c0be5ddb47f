# shellcheck shell=bash
# Runs in the guest of guest.sh, which puts CROWD, LOGS and the journal readers of lib.sh before it. What begins with @@ on
# the serial port is the report.
# shellcheck disable=SC2154
set -u
trap 'echo o >/proc/sysrq-trigger; sleep 60' EXIT # off at once: waiting for 32 000 processes to end proves nothing
U=psmond.service
say() { echo "@@ [$(cut -d' ' -f1 /proc/uptime)] $*"; }
fail() {
  say "FAILED: $*"
  journalctl -q --no-pager -o short-monotonic -u $U | tail -20
  lines "$LOGS" | grep -E '^#(note|tick)' | cut -c1-220 | tail -15
  exit 1
}
until_() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  # bash counts SECONDS by the clock that is set below: so does nothing here rely on one long wait over a jump.
  while ! "$@"; do ((SECONDS < end)) || fail "timeout: $what"; sleep 0.3; done
}
show() { systemctl show $U -p "$1" --value; }
is() { [[ $(show "$1") = "$2" ]]; }
more_notes() { (($(notes "$LOGS" "$1") > $2)); }
pace() {
  mkdir -p /etc/systemd/system/$U.d
  cat >/etc/systemd/system/$U.d/lane.conf <<X
[Service]
Environment=PSMON_PS_INTERVAL=$1 PSMON_CREDITS_INTERVAL=${2:-60s}
WatchdogSec=120s
ExecStopPost=+/bin/sh -c 'echo \$\$SERVICE_RESULT \$\$EXIT_CODE \$\$EXIT_STATUS >>/run/lane-exits'
X
  systemctl daemon-reload
}
stopped() {
  systemctl stop $U || fail "stop"
  [[ $(tail -1 /run/lane-exits) = 'success exited 0' ]] || fail "it ended with '$(tail -1 /run/lane-exits)'"
  [[ $(lines "$LOGS" | tail -1) = '#note '*' stop'* ]] || fail "the last line is no stop note: $(lines "$LOGS" | tail -1)"
}
verify() {
  local out status=0
  out=$(psmon verify "$LOGS" 2>&1) || status=$?
  ((status == 0)) || fail "psmon verify says $status: $out"
}

say "kernel $(uname -r), systemd $(systemctl --version | awk 'NR==1{print $2}'), cgroup v2: $(cat /sys/fs/cgroup/cgroup.controllers)"
systemd-sysusers || fail "systemd-sysusers"
pace 1s 2s
warnings=$(systemd-analyze verify --man=no $U 2>&1)
[[ -z $warnings ]] || fail "verify: $warnings"

# -- start: what only a whole machine grants --------------------------------------------------------------------------------
systemctl start $U || fail "start"
main=$(show MainPID)
[[ $(stat -c %U "/proc/$main") = psmon ]] || fail "it runs as $(stat -c %U "/proc/$main")"
grep -q '^CapEff:.0000000000881004$' "/proc/$main/status" || fail "$(grep ^Cap "/proc/$main/status")"
[[ $(awk '/^Max open files/ { print $4 $5 }' "/proc/$main/limits") = 524288524288 ]] || fail "$(grep '^Max open' "/proc/$main/limits")"
[[ $(cat "/proc/$main/oom_score_adj") = -900 ]] || fail "oom_score_adj is $(cat "/proc/$main/oom_score_adj")"
[[ $(cat "/proc/$main/cgroup") = 0::/system.slice/psmond.service ]] || fail "cgroup: $(cat "/proc/$main/cgroup")"
until_ 60 "a first tick" tick_after "$LOGS" 0
say "started: $(show StatusText); memory $(show MemoryCurrent)"

# Process events are acknowledged only here: every process that lives for a moment must be in the journal.
if [[ -f $LOGS/exits.log ]]; then
  cp /bin/true /run/lane-moment
  for _ in 1 2 3 4 5 6 7 8 9 10; do /run/lane-moment; done
  obituaries() { (($(grep -c '^[0-9].*lane-moment' "$LOGS/exits.log") >= 10)); }
  until_ 60 "10 obituaries of a short-lived program" obituaries
  [[ ! -f $LOGS/events.log ]] || (($(grep -cE '^[0-9][^ ]* +exec .*lane-moment' "$LOGS/events.log") >= 10)) || fail "exec events are missing"
  say "10 of 10 short lives have an obituary"
else
  say "note: no exits.log, obituaries not tested"
fi

# What spends is in a control group here, and the sum of these is the best clock: no other machine of the tests has it alone.
# shellcheck disable=SC2016 # it expands there
systemd-run -q --wait sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done' || fail "a burner"
closures() { grep '^#tick ' "$LOGS/credits.log" | grep -oE 'closure=[0-9.]+ closure_of=[a-z0-9]+'; }
closed() { closures | awk -F '[= ]' '$4 == "cgroup2" && $2 >= 85 && $2 <= 110 { found = 1 } END { exit !found }'; }
until_ 60 "a closure near 100 % of the control groups" closed
say "the sum of all programs beside the control groups: $(closures | tail -4 | tr '\n' ' ')"

at=$(last_seq "$LOGS")
systemctl reload $U || fail "reload"
is ActiveState active || fail "reload came back while $(show ActiveState)"
until_ 30 "a note 'reload ok'" more_notes 'reload ok' 0
until_ 60 "samples after the reload" tick_after "$LOGS" $((at + 2))
gaps=$(contiguous "$LOGS") || fail "samples lost over a reload: $gaps"
say "reloaded: $(show StatusText)"

# -- the real clock ---------------------------------------------------------------------------------------------------------
before=$(notes "$LOGS" clock)
date -s "$(date -d '1 hour ago' '+%F %T')" >/dev/null
until_ 60 "a note 'clock' after an hour back" more_notes clock "$before"
at=$(last_seq "$LOGS")
until_ 60 "samples after an hour back" tick_after "$LOGS" "$at"
say "an hour back: $(lines "$LOGS" | grep -E '^#note [^ ]* clock' | tail -1)"
today=$(date +%F)
date -s "$today 23:59:55" >/dev/null
rotated() { [[ -s $LOGS/ps-$today.log && -s $LOGS/ps.log ]]; }
until_ 60 "ps-$today.log after midnight" rotated
at=$(last_seq "$LOGS")
until_ 60 "samples after midnight" tick_after "$LOGS" "$at"
[[ $(head -c 11 "$LOGS/ps.log") = '#psmon 1 ps' ]] || fail "the new segment has no header"
tail -1 "$LOGS/ps-$today.log" | grep -qE '^#(tick|note)' || fail "the closed segment ends in the midst: $(tail -1 "$LOGS/ps-$today.log")"
stray=$(awk -v day="$today" '/^[0-9]/ && substr($1, 1, 10) != day { print; exit }' "$LOGS/ps-$today.log")
[[ -z $stray ]] || fail "a row of another day in ps-$today.log: $stray"
stopped
gaps=$(contiguous "$LOGS") || fail "samples lost over midnight: $gaps"
verify
say "midnight: ps-$today.log is closed, stop: exit 0, verify is clean, $(ticks "$LOGS" | wc -l) samples"

# -- the crowd --------------------------------------------------------------------------------------------------------------
sysctl -qw kernel.pid_max=4194304 kernel.threads-max=400000 vm.max_map_count=1048576
pace 10s
systemctl start $U || fail "start before the crowd"
main=$(show MainPID)
idle=$(awk '/^VmRSS/ { print $2 }' "/proc/$main/status")
# setsid: without a terminal, or ps would count them as interactive and hide them.
setsid /lane/crowd "$CROWD" </dev/null >/run/crowd 2>&1 &
# Read once: between two looks the last word may be said.
crowd() {
  local said
  said=$(cat /run/crowd 2>/dev/null) || true
  [[ $said != *all* ]] || return 0
  [[ -z $said ]] || fail "the crowd: $said"
  false
}
# Each birth is an event that somebody takes: on an emulated machine ten thousands of them take their time.
until_ 480 "$CROWD processes" crowd
say "$CROWD processes live, $(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo) MiB free; psmond was $(show ActiveState) throughout"
seen() { lines "$LOGS" | grep '^#tick ' | grep -oE ' seen=[0-9]+' | cut -d= -f2 | sort -n | tail -1; }
all_seen() { (($(seen) >= CROWD)); }
until_ 180 "a tick with seen >= $CROWD" all_seen
is MainPID "$main" || fail "psmond was restarted meanwhile"
rows=$(lines "$LOGS" | grep -c '^[0-9].*crowd') || true
((rows >= CROWD)) || fail "$CROWD processes, but only $rows rows of them"
say "$(lines "$LOGS" | grep '^#tick ' | tail -1 | cut -c1-230)"
say "psmond: $(awk '/^Vm(HWM|RSS)/ { printf "%s %d KiB ", $1, $2 }' "/proc/$main/status")(idle $idle), cgroup $(show MemoryCurrent) bytes, $(find "/proc/$main/fd" | wc -l) fds, status: $(show StatusText)"
stopped
verify
say "stop: exit 0, verify is clean, journal $(du -sk "$LOGS" | cut -f1) KiB"
say GUEST-OK
