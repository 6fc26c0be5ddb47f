#!/bin/bash
# The Debian package: built, looked at by lintian, installed, removed and purged below a real systemd in a throw-away root.
# usage: deb.sh      about 20 s when the release build exists
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"
bounded 1200 "$@"
needs cargo=cargo dpkg=dpkg dpkg-deb=dpkg lintian=lintian man=man-db groff=groff-base
if ! command -v cargo-deb >/dev/null; then
  say "cargo-deb is missing, installing it"
  cargo install --quiet --locked cargo-deb || skip "cargo-deb could not be installed"
fi

log=$(mktemp)
drop_log() { rm -f "$log"; }
at_exit drop_log
"$REPO/packaging/build-deb" >"$log" 2>&1 || { tail -30 "$log"; fail "packaging/build-deb"; }
deb=$(tail -1 "$log")
[[ -f $deb ]] || fail "build-deb ends with '$deb', which is no file"
say "built $(basename "$deb"), $(($(stat -c %s "$deb") / 1024)) KiB"

# A first upload to Debian's own archive would close a bug; this is none.
findings=$(lintian --no-cfg --allow-root --suppress-tags initial-upload-closes-no-bugs "$deb" 2>&1) || true
[[ -z $findings ]] || echo "$findings"
if grep -qE '^[EW]:' <<<"$findings"; then fail "lintian finds errors or warnings"; fi
say "lintian: no errors, no warnings"

ns_prepare
diagnose() {
  [[ ! -s $WORK/dpkg ]] || tail -20 "$WORK/dpkg"
  [[ -z $LEADER ]] || enter journalctl -q --no-pager -u psmond.service | tail -20
}
# The documentation is part of the package: a dpkg that is told to leave it out (as in slim images) would hide it here.
rm -rf "$ROOT"/etc/dpkg/dpkg.cfg.d
install -m 644 "$deb" "$ROOT/psmon.deb"
# The target of psmond.service is not reached in here, and need not be: the package starts it.
ns_boot
pkg() { enter env DEBIAN_FRONTEND=noninteractive dpkg "$@" >"$WORK/dpkg" 2>&1 || fail "dpkg $*"; }
LOGS=$ROOT/var/log/psmon

# -- install ----------------------------------------------------------------------------------------------------------------
enter dpkg -s psmon >/dev/null 2>&1 && pkg -P psmon
pkg -i /psmon.deb
[[ $(enter systemctl is-enabled psmond) = enabled ]] || fail "not enabled: $(enter systemctl is-enabled psmond)"
is ActiveState active || fail "installed, but $(show ActiveState)"
[[ $(enter stat -c %U "/proc/$(show MainPID)") = psmon ]] || fail "it does not run as psmon"
[[ " $(enter id -nG psmon) " = *" adm "* ]] || fail "psmon is no member of adm"
until_ 30 "a first tick" tick_after "$LOGS" 0
# Not --man=no: the pages that Documentation= names must exist now.
warnings=$(enter systemd-analyze verify psmond.service 2>&1) || fail "verify: $warnings"
[[ -z $warnings ]] || fail "systemd-analyze verify says: $warnings"
say "installed: enabled, running as psmon, recording"

# shellcheck disable=SC2016 # dpkg's own variable
enter dpkg-query -W -f '${Conffiles}\n' psmon | grep -q ' /etc/psmond.toml ' || fail "/etc/psmond.toml is no conffile"
enter psmond --check >/dev/null || fail "psmond --check refuses the packaged config"
differs=$(enter dpkg -V psmon) || true
[[ -z $differs ]] || fail "files differ from the package: $differs"

contents=$(enter dpkg -L psmon)
pages=0
while read -r page; do
  said=$(enter groff -Tutf8 -man -ww -Kutf8 - 2>&1 >/dev/null < <(zcat "$ROOT$page")) || fail "groff: $page"
  [[ -z $said ]] || fail "$page: $(head -3 <<<"$said")"
  ((pages += 1))
done < <(grep -E '/man[1-8]/.*\.gz$' <<<"$contents")
for page in psmon.1 psmond.8; do
  grep -q "/$page.gz\$" <<<"$contents" || fail "no man page $page"
  [[ $(enter man -l "$(grep "/$page.gz\$" <<<"$contents")" 2>&1 | wc -l) -gt 5 ]] || fail "man does not show $page"
done
for program in psmon psmond; do
  for file in bash-completion/completions/$program zsh/vendor-completions/_$program fish/vendor_completions.d/$program.fish; do
    grep -qx "/usr/share/$file" <<<"$contents" || fail "no completion /usr/share/$file"
  done
  bash -n "$ROOT/usr/share/bash-completion/completions/$program" || fail "bash does not read the completion of $program"
done
say "$pages man pages render without a warning, completions are there"

# -- upgrade: the same package over itself, with a config that the administrator changed -------------------------------------
printf '\n# a line of the administrator\n' >>"$ROOT/etc/psmond.toml"
before=$(last_seq "$LOGS") pid=$(show MainPID)
pkg -i --force-confdef --force-confold /psmon.deb
is ActiveState active || fail "after an upgrade it is $(show ActiveState)"
[[ $(show MainPID) != "$pid" ]] || fail "an upgrade did not restart it"
grep -q 'of the administrator' "$ROOT/etc/psmond.toml" || fail "an upgrade overwrote the config"
until_ 40 "samples after the upgrade" tick_after "$LOGS" "$before"
gaps=$(contiguous "$LOGS") || fail "seq does not go on over an upgrade: $gaps"
say "upgrade: restarted, the config kept, seq goes on"

# -- remove, purge ----------------------------------------------------------------------------------------------------------
pkg -r psmon
is ActiveState inactive || fail "removed, but $(show ActiveState)"
[[ ! -e $ROOT/usr/bin/psmond ]] || fail "the program is still there"
[[ -s $LOGS/ps.log ]] || fail "remove took the logs"
[[ -s $ROOT/etc/psmond.toml ]] || fail "remove took the config"
pkg -P psmon
[[ ! -e $LOGS ]] || fail "purge left $LOGS"
[[ ! -e $ROOT/etc/psmond.toml ]] || fail "purge left the config"
left=$(find "$ROOT/etc/systemd/system" -name '*psmond*')
[[ -z $left ]] || fail "purge left $left"
say "remove keeps logs and config, purge takes them"
say "PASSED"
