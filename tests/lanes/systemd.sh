#!/bin/bash
# psmond.service under a real systemd: hardening, start, reload, watchdog, crash, stop.
# usage: systemd.sh BIN_DIR      about 25 s
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"
bounded 240 "$@"
binaries "$@"
ns_prepare

UNIT=psmond.service
LOGS=$ROOT/var/log/psmon
CONF=$ROOT/etc/psmond.toml

diagnose() {
  [[ -n $LEADER ]] || { tail -20 "$WORK/systemd.log"; return; }
  echo "--- status"; enter systemctl status --no-pager -n 0 "$UNIT" | head -20
  echo "--- systemd's journal"; enter journalctl -q --no-pager -o short-monotonic -u "$UNIT" | tail -30
  echo "--- notes and ticks"; lines "$LOGS" | grep -E '^#(note|tick)' | cut -c1-200 | tail -15
}

install -m 755 "$BIN/psmond" "$BIN/psmon" "$ROOT/usr/bin/"
install -D -m 644 "$REPO/systemd/psmond.service" "$ROOT/etc/systemd/system/$UNIT"
install -D -m 644 "$REPO/systemd/psmond.sysusers.conf" "$ROOT/usr/lib/sysusers.d/psmond.conf"
cp "$REPO/etc/psmond.toml" "$CONF"
chmod 644 "$CONF"
# The test's own pace. WatchdogSec of the unit is asserted below, from the file.
install -d "$ROOT/etc/systemd/system/$UNIT.d"
cat >"$ROOT/etc/systemd/system/$UNIT.d/lane.conf" <<'X'
[Service]
Environment=PSMON_PS_INTERVAL=1s
WatchdogSec=5s
RestartSec=300ms
ExecStopPost=+/bin/sh -c 'echo $$SERVICE_RESULT $$EXIT_CODE $$EXIT_STATUS >>/run/lane-exits'
X

ns_boot

# -- the unit ---------------------------------------------------------------------------------------------------------------
# verify exits 0 on keys it does not know: only silence is a pass. man: lines are left out, the pages are the deb lane's.
warnings=$(enter systemd-analyze verify --man=no "/etc/systemd/system/$UNIT" 2>&1) || fail "verify: $warnings"
[[ -z $warnings ]] || fail "systemd-analyze verify says: $warnings"
grep -q '^WatchdogSec=' "$REPO/systemd/psmond.service" || fail "the unit has no watchdog"
exposure=$(enter systemd-analyze security --no-pager "$UNIT" | sed -nE 's/.*Overall exposure level for [^:]*: ([0-9.]+).*/\1/p')
[[ -n $exposure ]] || fail "systemd-analyze security gave no level"
(($(bc <<<"$exposure <= 2.8"))) || fail "exposure is $exposure, more than 2.8"
say "verify is silent, exposure $exposure"
# The drop-in is tried as text only: merged as meant, and still a valid unit.
netns() {
  local dir=$WORK/netns
  install -D -m 644 "$REPO/systemd/psmond.service" "$dir/$UNIT"
  install -D -m 644 "$REPO/systemd/psmond.service.d/netns.conf" "$dir/$UNIT.d/netns.conf"
  systemd-analyze security --offline=yes --no-pager "$dir/$UNIT"
}
grep -q '✗ RestrictNamespaces=~net ' <<<"$(netns)" || fail "netns.conf does not allow network namespaces"
grep -q '✗ RestrictNamespaces=~user ' <<<"$(netns)" && fail "netns.conf allows user namespaces"

# -- the user ---------------------------------------------------------------------------------------------------------------
# psmon belongs to nobody yet; systemd-sysusers.service made it at boot from our file.
entry=$(enter getent passwd psmon) || fail "sysusers made no user psmon"
[[ $entry = *:/usr/sbin/nologin ]] || fail "psmon can log in: $entry"
[[ " $(enter id -nG psmon) " = *" adm "* ]] || fail "psmon is no member of adm: $(enter id psmon)"

# -- start ------------------------------------------------------------------------------------------------------------------
enter systemctl start "$UNIT" || fail "start: $(enter journalctl -q -o cat --no-pager -u "$UNIT" | tail -5)"
is ActiveState active || fail "after start it is $(show ActiveState)"
main=$(show MainPID)
status=$(enter cat "/proc/$main/status")
field() { awk -v k="$1:" '$1 == k { print $2 }' <<<"$status"; }
[[ $(enter stat -c %U "/proc/$main") = psmon ]] || fail "it runs as $(enter stat -c %U "/proc/$main")"
# CAP_DAC_READ_SEARCH 2, CAP_NET_ADMIN 12, CAP_SYS_PTRACE 19, CAP_SYS_NICE 23
want=$(printf '%016x' $((1 << 2 | 1 << 12 | 1 << 19 | 1 << 23)))
for set in CapEff CapPrm CapBnd CapAmb; do
  [[ $(field $set) = "$want" ]] || fail "$set is $(field $set), not $want"
done
[[ $(field NoNewPrivs) = 1 ]] || fail "NoNewPrivs is not set"
[[ $(field Seccomp) = 2 ]] || fail "no seccomp filter"
[[ $(enter cat "/proc/$main/oom_score_adj") = -900 ]] || say "note: oom_score_adj is $(enter cat "/proc/$main/oom_score_adj")"
say "started as psmon with the four capabilities; status: $(show StatusText); memory $(show MemoryCurrent), $(show TasksCurrent) tasks"

until_ 20 "a first tick in $LOGS/ps.log" tick_after "$LOGS" 0
[[ $(head -c 11 "$LOGS/ps.log") = '#psmon 1 ps' ]] || fail "no header: $(head -1 "$LOGS/ps.log")"
modes() { stat -c '%n %a %U %G' "$@" | sed "s#$LOGS#.#"; }
# Names are those inside: the uid was given there.
uid=$(enter id -u psmon) adm=$(enter getent group adm | cut -d: -f3)
owned() { [[ $(stat -c '%a %u %g' "$1") = "$2 $uid $adm" ]] || fail "$1 is $(stat -c '%a %u:%g' "$1"), not $2 $uid:$adm (psmon:adm)"; }
owned "$LOGS" 750
for file in ps.log psmond.lock; do owned "$LOGS/$file" 640; done
while read -r file; do
  case $(stat -c %a "$file") in 640 | 600) ;; *) fail "mode of $file: $(modes "$file")" ;; esac
done < <(find "$LOGS" -type f)

# systemd-journald belongs to root, and its own name is cut after 15 bytes: the whole one is that of its executable,
# which can only be read with the capabilities. So this row shows that they work.
named_root() {
  lines "$LOGS" | awk '
    /^#cols / { user = program = 0; for (i = 2; i <= NF; i++) { if ($i == "user") user = i - 1; if ($i == "program") program = i - 1 } }
    /^[0-9]/ && user && $user == "root" && $program == "systemd-journald" { found = 1 }
    END { exit !found }'
}
until_ 15 "a row of user root whose program was found by its exe" named_root
say "journal: header, ticks up to seq $(last_seq "$LOGS"), modes right, root's exe was read"

# -- reload -----------------------------------------------------------------------------------------------------------------
# steady FROM TO: the ticks with these numbers follow one another within 2.5 intervals, by the clock that never jumps.
steady() {
  lines "$LOGS" | awk -v from="$1" -v to="$2" '
    /^#tick / { for (i = 3; i <= NF; i++) { split($i, kv, "="); v[kv[1]] = kv[2] }
      if (v["seq"] > from && v["seq"] <= to && prev && v["boottime"] - prev > 2.5) { print "seq " v["seq"] " came " v["boottime"] - prev " s later"; bad = 1 }
      prev = v["boottime"] }
    END { exit bad }'
}
more_notes() { (($(notes "$LOGS" "$1") > $2)); }
changed() { [[ $(show StatusText) != "$1" ]]; }

before=$(last_seq "$LOGS") text=$(show StatusText)
t=$EPOCHREALTIME
enter systemctl reload "$UNIT" || fail "systemctl reload"
took=$(bc <<<"$EPOCHREALTIME - $t")
# It came back: so READY=1 was sent after RELOADING=1, and the service is not reloading any more.
is ActiveState active || fail "systemctl reload came back while the service was $(show ActiveState)"
is SubState running || fail "systemctl reload came back in $(show SubState)"
until_ 5 "a note 'reload ok'" more_notes 'reload ok' 0
until_ 5 "another StatusText than '$text'" changed "$text"
until_ 20 "two ticks after the reload" tick_after "$LOGS" $((before + 2))
gaps=$(contiguous "$LOGS") || fail "samples lost over a reload: seq $gaps"
gaps=$(steady "$before" $((before + 3))) || fail "a sample was late over a reload: $gaps"
[[ $(show MainPID) = "$main" ]] || fail "a reload changed the pid"
(($(notes "$LOGS" 'reload ok') == 1)) || fail "one reload, $(notes "$LOGS" 'reload ok') notes"
say "reload: ${took}s, seq $before goes on, status: $(show StatusText)"

printf '\n[[program]]\nname = "lane"\ncomm = "no-such-thing"\n' >>"$CONF"
until_ 15 "a reload after an edit in place" more_notes 'reload ok' 1
sleep 2
(($(notes "$LOGS" 'reload ok') == 2)) || fail "one edit, $(($(notes "$LOGS" 'reload ok') - 1)) reloads"
say "edit in place: one reload"

cp "$CONF" "$WORK/good.toml"
printf '\n[nonsense]\nkey = 1\n' >>"$CONF"
until_ 15 "a note 'reload refused'" more_notes 'reload refused' 0
refused() { [[ ${1,,} = *refus* || ${1,,} = *nonsense* ]]; }
status_refused() { refused "$(show StatusText)"; }
until_ 5 "a StatusText that tells of the refusal" status_refused
at=$(last_seq "$LOGS")
until_ 10 "samples after a refused reload" tick_after "$LOGS" "$at"
is ActiveState active || fail "a wrong config made it $(show ActiveState)"
(($(notes "$LOGS" 'reload ok') == 2)) || fail "the wrong config was taken"
say "wrong config: refused, the old one goes on; status: $(show StatusText)"
enter psmond --check >/dev/null 2>&1 && fail "psmond --check likes the wrong config"
mv "$WORK/good.toml" "$CONF.new" && chmod 644 "$CONF.new" && mv "$CONF.new" "$CONF"
until_ 15 "a reload after a rename over the file" more_notes 'reload ok' 2
gaps=$(contiguous "$LOGS") || fail "samples lost: seq $gaps"

# -- crash ------------------------------------------------------------------------------------------------------------------
restarted() { [[ $(show NRestarts) -ge $1 ]] && is ActiveState active; }
at=$(last_seq "$LOGS")
enter systemctl kill --kill-whom=main -s KILL "$UNIT"
until_ 20 "a restart after SIGKILL" restarted 1
until_ 15 "samples after the restart" tick_after "$LOGS" "$at"
gaps=$(contiguous "$LOGS") || fail "seq does not go on over a restart: $gaps"
# verify PATTERN...: clean, or nothing but the torn tail that a kill may leave.
verify() {
  local out status=0
  out=$(enter psmon verify /var/log/psmon 2>&1) || status=$?
  ((status == 0)) || fail "psmon verify says $status: $out"
}
verify
say "SIGKILL: restarted, seq goes on from $at, verify is clean"

enter systemctl kill --kill-whom=main -s STOP "$UNIT"
until_ 30 "a restart by the watchdog" restarted 2
[[ $(enter tail -1 /run/lane-exits) = watchdog* ]] || fail "restarted, but not by the watchdog: $(enter tail -1 /run/lane-exits)"
at=$(last_seq "$LOGS")
until_ 15 "samples after the watchdog" tick_after "$LOGS" "$at"
say "SIGSTOP: the watchdog restarted it"

# -- stop -------------------------------------------------------------------------------------------------------------------
enter systemctl stop "$UNIT" || fail "stop"
is ActiveState inactive || fail "after stop it is $(show ActiveState)"
# systemd forgets a stopped unit that nothing refers to, and takes a death by SIGTERM for success: so ExecStopPost= wrote it down.
exits=$(enter cat /run/lane-exits)
[[ $(tail -1 <<<"$exits") = 'success exited 0' ]] || fail "it ended with '$(tail -1 <<<"$exits")', not with exit status 0"
[[ $(lines "$LOGS" | tail -1) = '#note '*' stop'* ]] || fail "the last line is no stop note: $(lines "$LOGS" | tail -1)"
[[ $(lines "$LOGS" | grep -c '^#psmon 1 ps') -ge 1 ]] || fail "the header is gone"
verify
gaps=$(contiguous "$LOGS") || fail "seq: $gaps"
say "stop: exit 0, a stop note, verify clean, $(ticks "$LOGS" | wc -l) samples"

# -- a wrong config at start ------------------------------------------------------------------------------------------------
printf '\n[nonsense]\nkey = 1\n' >>"$CONF"
enter systemctl reset-failed "$UNIT" 2>/dev/null || true
if enter systemctl start "$UNIT" 2>/dev/null; then fail "it started on a wrong config"; fi
sleep 1
is ActiveState failed || fail "with a wrong config it is $(show ActiveState)"
is ExecMainStatus 2 || fail "with a wrong config it exits with $(show ExecMainStatus), not 2"
is NRestarts 0 || fail "it is restarted on a wrong config"
[[ $(enter journalctl -q --no-pager -o cat -u "$UNIT") = *nonsense* ]] || fail "systemd's journal does not name the wrong key"
say "wrong config at start: exit 2, not restarted, named in the journal"
say "PASSED"
