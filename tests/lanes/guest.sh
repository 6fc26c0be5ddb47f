#!/bin/bash
# psmond in a whole machine of its own, emulated: initial namespaces, cgroup v2, every capability, a clock that may be moved,
# 32 000 processes. What the namespaces of the systemd lane cannot show.
# usage: guest.sh BIN_DIR      about 75 s on idle cores, and once 70 s more for the image
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"
bounded 1000 "$@"
binaries "$@"
needs qemu-system-x86_64=qemu-system-x86 rustc=rustc
[[ $(uname -m) = x86_64 ]] || skip "the emulated guest is x86_64, as are its binaries"

CROWD=${CROWD:-32000}
MEMORY=${MEMORY:-5632}
free=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
((free > MEMORY + 512)) || skip "$free MiB of memory are free, the guest with $CROWD processes wants $MEMORY"

image=${CARGO_TARGET_DIR:-$REPO/target}/guest
built=$("$(dirname "$0")/guest-image" "$image") || {
  status=$?
  ((status == 77)) && skip "no guest image: ${built#SKIPPED: }"
  fail "guest-image: $built"
}
workdir
QEMU=
guest_down() { [[ -z $QEMU ]] || { kill -KILL "$QEMU" && wait "$QEMU"; } 2>/dev/null; }
at_exit guest_down
diagnose() { echo "--- serial port"; [[ ! -f $WORK/out ]] || tr -d '\r' <"$WORK/out" | tail -60; }

# -- payload: unpacked over the root of the guest --------------------------------------------------------------------------
P=$WORK/payload
install -D -m 755 -t "$P/usr/bin" "$BIN/psmond" "$BIN/psmon"
install -D -m 644 -t "$P/etc" "$REPO/etc/psmond.toml"
install -D -m 644 "$REPO/systemd/psmond.service" "$P/etc/systemd/system/psmond.service"
install -D -m 644 "$REPO/systemd/psmond.sysusers.conf" "$P/usr/lib/sysusers.d/psmond.conf"
mkdir "$P/lane"
rustc --edition 2024 -O -C panic=abort -C strip=symbols -C target-feature=+crt-static -C relocation-model=static \
  -o "$P/lane/crowd" "$(dirname "$0")/crowd.rs" || fail "rustc crowd.rs"
{
  echo "CROWD=$CROWD LOGS=/var/log/psmon"
  declare -f segments lines ticks last_seq notes tick_after contiguous
  cat "$(dirname "$0")/guest-inside.sh"
} >"$P/lane/run"
# No owner of the building machine goes in; /, /etc and the like keep their modes.
tar -C "$P" --owner=0 --group=0 --mode=go-w -cf "$WORK/payload.tar" .
truncate -s %512 "$WORK/payload.tar"

# -- run -------------------------------------------------------------------------------------------------------------------
# q35: microvm boots faster when idle but hangs before the first line on a loaded machine. -cx16: qemu 7.2 spoils the flags
# of an emulated CMPXCHG16B. The clock begins at a noon, so that no midnight comes uncalled.
boot() {
  qemu-system-x86_64 -M q35 -accel tcg,thread=multi,tb-size=256 -cpu max,-cx16 -smp 2 -m "$MEMORY" -nodefaults -no-user-config -display none \
    -serial stdio -no-reboot -rtc base=2026-11-18T12:00:00,clock=host -kernel "$image/vmlinuz" -initrd "$image/initrd.gz" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on psi=1 systemd.show_status=false systemd.unit=lane.target" \
    -drive "if=none,id=a,file=$image/root.img,format=raw,snapshot=on" -device virtio-blk-pci,drive=a \
    -drive "if=none,id=b,file=$WORK/payload.tar,format=raw,readonly=on" -device virtio-blk-pci,drive=b \
    </dev/null >"$WORK/out" 2>&1 &
  QEMU=$!
}
ended() { ! kill -0 "$QEMU" 2>/dev/null; }
# A guest that printed nothing after this long never will (seen on loaded machines): one more try, and only for that.
silent() {
  local end=$((SECONDS + 75))
  until grep -aq '@@' "$WORK/out"; do
    ended && return 0
    ((SECONDS < end)) || return 0
    sleep 0.5
  done
  return 1
}
boot
if silent; then
  say "the guest printed nothing, trying once more: $(tail -c 300 "$WORK/out")"
  guest_down
  boot
  silent && fail "the guest printed nothing, twice"
fi
until_ 420 "the end of the guest" ended
wait "$QEMU" || true
QEMU=
tr -d '\r' <"$WORK/out" | sed -n 's/^.*@@ //p' | while read -r line; do say "$line"; done
grep -aq '@@ .*GUEST-OK' "$WORK/out" || fail "the guest did not say that all is well"
say "PASSED"
