# shellcheck shell=bash disable=SC2034
# Shared by the lanes. A lane ends with 0 (passed), 77 (skipped, the reason is on stdout) or anything else (failed, with a
# reason). It ends what it started, by pid, whatever happens.
set -euo pipefail
export LC_ALL=C.UTF-8 TZ=UTC SYSTEMD_PAGER='' SYSTEMD_COLORS=0

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
LANE=$(basename "$0" .sh)
STARTED=${EPOCHREALTIME/./}
WORK=
CLEANUPS=()

say() {
  local ms=$(((${EPOCHREALTIME/./} - STARTED) / 1000))
  printf '%s %4d.%03d  %s\n' "$LANE" $((ms / 1000)) $((ms % 1000)) "$*"
}
fail() { say "FAILED: $*"; exit 1; }
skip() { say "SKIPPED: $*"; exit 77; }

# bounded SECONDS ARGUMENTS...: runs the lane once more below timeout, so that nothing that hangs can hold up the tests.
bounded() {
  [[ -z ${LANE_BOUNDED-} ]] || return 0
  export LANE_BOUNDED=1
  exec timeout --kill-after=30 "$1" bash "$0" "${@:2}"
}

# needs COMMAND=PACKAGE...: skips when a command is missing, and names the package that has it.
needs() {
  local want missing=()
  for want in "$@"; do command -v "${want%%=*}" >/dev/null || missing+=("${want#*=}"); done
  ((${#missing[@]} == 0)) || skip "missing: ${missing[*]} (apt-get install ${missing[*]})"
}

# until_ SECONDS WHAT COMMAND...: waits for COMMAND to succeed.
until_() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  while ! "$@"; do
    ((SECONDS < end)) || fail "timeout: $what"
    sleep 0.1
  done
}

# Undone in reverse order. Functions, not strings, so that shellcheck reads them.
at_exit() { CLEANUPS=("$1" ${CLEANUPS[@]+"${CLEANUPS[@]}"}); }
finish() {
  local status=$? undo
  trap - EXIT
  set +e
  ((status == 0 || status == 77)) || { declare -F diagnose >/dev/null && diagnose; }
  ((status != 143)) || say "FAILED: ended from outside, most likely its time was over"
  for undo in ${CLEANUPS[@]+"${CLEANUPS[@]}"}; do "$undo"; done
  [[ -z $WORK ]] || rm -rf --one-file-system "$WORK"
  exit "$status"
}
trap finish EXIT
trap 'exit 143' TERM INT HUP

workdir() { WORK=$(mktemp -d "${TMPDIR:-/tmp}/psmon-$LANE.XXXXXX"); }

# binaries DIR: the two programs a lane is about.
binaries() {
  [[ -n ${1-} ]] || { echo "usage: $0 BIN_DIR" >&2; exit 2; }
  BIN=$(cd "$1" && pwd) || fail "no directory $1"
  [[ -x $BIN/psmond && -x $BIN/psmon ]] || fail "psmond and psmon are not in $BIN"
}

# ---- real systemd as PID 1 of new namespaces, over a throw-away overlay of / --------------------------------------------
# Nothing is installed and nothing of this machine is changed: /proc/sys and /sys are read-only inside (systemd-sysctl would
# write to the one kernel both share), the overlay lies in a tmpfs. Not the initial pid namespace: the kernel gives no process
# events and no exit records in here. The guest lane has those.
ROOT=     # the overlay, seen from outside
NS_PID=   # unshare; its end is the end of everything inside
LEADER=   # systemd, by its pid outside
CGROUPS=()

ns_down() {
  [[ -z $NS_PID ]] || { kill -KILL "$NS_PID" && wait "$NS_PID"; } 2>/dev/null
  local dir
  for _ in {1..25}; do
    umount -R "$WORK/t/root" 2>/dev/null
    umount "$WORK/t" 2>/dev/null && break
    sleep 0.2
  done
  for dir in ${CGROUPS[@]+"${CGROUPS[@]}"}; do
    for _ in {1..10}; do
      find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null
      [[ -d $dir ]] || break
      sleep 0.1
    done
  done
}

ns_prepare() {
  ((EUID == 0)) || skip "needs root (mounts, namespaces)"
  needs systemctl=systemd unshare=util-linux nsenter=util-linux dbus-daemon=dbus bc=bc
  [[ -x /lib/systemd/systemd ]] || skip "no /lib/systemd/systemd on this machine"
  workdir
  at_exit ns_down
  mkdir "$WORK/t"
  mount -t tmpfs -o size=1g,mode=755 tmpfs "$WORK/t" 2>/dev/null || skip "may not mount here"
  mkdir "$WORK"/t/{up,wk,root}
  ROOT=$WORK/t/root
  mount -t overlay overlay -o "lowerdir=/,upperdir=$WORK/t/up,workdir=$WORK/t/wk" "$ROOT" 2>/dev/null ||
    skip "no overlay file system over / to be had here"
  : >"$ROOT/etc/fstab"
  od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$ROOT/etc/machine-id"
  # Only what sysinit pulls in, and the bus: no service of this machine may start a second time.
  rm -rf "$ROOT/etc/systemd/system"
  mkdir -p "$ROOT/etc/systemd/system"
  local unit
  for unit in systemd-{timesyncd,sysctl,random-seed,firstboot,pstore,binfmt,modules-load,repart,udevd,udev-trigger}.service \
    kmod-static-nodes.service dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    sys-fs-fuse-connections.mount sys-kernel-config.mount proc-sys-fs-binfmt_misc.automount; do
    ln -s /dev/null "$ROOT/etc/systemd/system/$unit"
  done
  cat >"$ROOT/etc/systemd/system/lane.target" <<-'X'
	[Unit]
	Requires=sysinit.target dbus.socket
	Wants=dbus.service
	After=sysinit.target dbus.service
	AllowIsolate=yes
	X
  # Whatever of an earlier psmon this machine has must not be seen.
  rm -rf "$ROOT"/var/log/psmon "$ROOT"/etc/psmond.toml "$ROOT"/etc/init.d/psmond
  rm -f "$ROOT"/usr/sbin/policy-rc.d "$ROOT"{/usr,}/lib/systemd/system/psmond.service "$ROOT"/usr/lib/sysusers.d/psmond.conf
  local file
  for file in passwd shadow group gshadow; do
    [[ ! -f $ROOT/etc/$file ]] || sed -i -E '/^psmon:/d; s/([:,])psmon(,|$)/\1\2/' "$ROOT/etc/$file"
  done
}

# A cgroup of our own in every hierarchy, so that the systemd inside has its own tree and its limits bite.
ns_cgroups() {
  local mounts mount name path
  if [[ $(stat -fc %T /sys/fs/cgroup) = cgroup2fs ]]; then mounts=(/sys/fs/cgroup); else mounts=(/sys/fs/cgroup/*); fi
  for mount in "${mounts[@]}"; do
    [[ -d $mount && ! -L $mount ]] || continue
    name=$(basename "$mount")
    case $name in
      cgroup | unified) path=$(sed -n 's/^0:://p' /proc/self/cgroup) ;;
      systemd) path=$(sed -n 's/^[0-9]*:name=systemd://p' /proc/self/cgroup) ;;
      *) path=$(sed -n "s/^[0-9]*:$name://p" /proc/self/cgroup) ;;
    esac
    [[ -n $path ]] || continue
    path=$mount${path%/}
    mkdir "$path/psmon-lane-$$" 2>/dev/null || skip "may not make a cgroup in $path"
    CGROUPS+=("$path/psmon-lane-$$")
    if [[ $name = cpuset ]]; then
      cat "$path/cpuset.cpus" >"$path/psmon-lane-$$/cpuset.cpus"
      cat "$path/cpuset.mems" >"$path/psmon-lane-$$/cpuset.mems"
    fi
  done
}

ns_boot() {
  ns_cgroups
  cat >"$WORK/init" <<X
set -e
for d in ${CGROUPS[*]}; do echo \$\$ >\$d/cgroup.procs; done
exec unshare --pid --mount --uts --ipc --cgroup --fork --kill-child=KILL bash $WORK/inside
X
  cat >"$WORK/inside" <<X
set -e
mount --make-rprivate /
cd $ROOT
mount -t proc proc proc
mount --bind proc/sys proc/sys; mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
for d in null zero full random urandom tty; do touch dev/\$d; mount --bind /dev/\$d dev/\$d; done
mkdir dev/pts dev/shm; mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd
for i in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/\${i%:*} dev/\${i#*:}; done
if [ "\$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
  mount -t cgroup2 cgroup2 sys/fs/cgroup
else
  mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
  for c in /sys/fs/cgroup/*; do
    [ -d \$c ] && [ ! -L \$c ] || continue
    n=\${c##*/}; mkdir sys/fs/cgroup/\$n
    case \$n in
      unified) mount -t cgroup2 cgroup2 sys/fs/cgroup/unified;;
      systemd) mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd;;
      *) mount -t cgroup -o \$n cgroup sys/fs/cgroup/\$n;;
    esac
  done
fi
mkdir -p run/oldroot; pivot_root . run/oldroot; umount -l /run/oldroot
exec env -i container=lane PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=lane.target --show-status=no
X
  bash "$WORK/init" </dev/null >"$WORK/systemd.log" 2>&1 &
  NS_PID=$!
  until_ 60 "systemd as PID 1: $(tail -3 "$WORK/systemd.log")" ns_leader
  until_ 90 "the manager answers" ns_answers
  [[ $STATE = running ]] || { enter systemctl --failed --no-legend; fail "the system is $STATE, not running"; }
  say "systemd $(enter systemctl --version | awk 'NR==1{print $2}') runs as PID 1 of its own namespaces"
}
ns_leader() {
  kill -0 "$NS_PID" 2>/dev/null || { tail -5 "$WORK/systemd.log"; fail "the namespaces ended at once"; }
  LEADER=$(pgrep -P "$NS_PID" | head -1) && [[ $(cat "/proc/$LEADER/comm" 2>/dev/null) = systemd ]]
}
ns_answers() {
  STATE=$(enter systemctl is-system-running --wait 2>/dev/null) || true
  [[ $STATE = running || $STATE = degraded ]]
}

# enter COMMAND...: inside.
enter() {
  nsenter -t "$LEADER" -m -p -u -i -C -- \
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TERM=dumb SYSTEMD_PAGER= "$@"
}
show() { enter systemctl show psmond.service -p "$1" --value; }
is() { [[ $(show "$1") = "$2" ]]; }

# ---- the journal, read from outside and without psmon's own reader -------------------------------------------------------
# The segments of stream ps in $1 in the order of their seg, which neither names nor times would give (ps-DATE.log is older than
# ps-DATE.2.log).
segments() {
  local file
  for file in "$1"/ps.log "$1"/ps-*.log; do
    [[ ! -s $file ]] || printf '%s %s\n' "$(head -1 "$file" | sed -nE 's/^#psmon 1 ps seg=([0-9]+).*/\1/p')" "$file"
  done | sort -n | cut -d' ' -f2-
}
lines() { local files; mapfile -t files < <(segments "$1"); ((${#files[@]} == 0)) || cat "${files[@]}"; }
ticks() { lines "$1" | awk '/^#tick /' | grep -oE ' seq=[0-9]+' | cut -d= -f2; }
last_seq() { ticks "$1" | tail -1; }
notes() { lines "$1" | grep -c "^#note [^ ]* $2" || true; }
tick_after() { local seq; seq=$(last_seq "$1"); [[ -n $seq ]] && ((seq > $2)); }
# Each seq is the one before plus one: no sample is missing, none is there twice.
contiguous() { ticks "$1" | awk 'NR > 1 && $1 != prev + 1 { print prev " -> " $1; bad = 1 } { prev = $1 } END { exit bad || NR == 0 }'; }
