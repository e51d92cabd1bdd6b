# Sourced by the lab's commands: what they share.
# shellcheck shell=bash

here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
export here
PATH=$PATH:/usr/sbin:/sbin

die() { printf '%s\n' "$*" >&2; exit 1; }
help_of() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$1" >&2; exit 2; }

# session or netns: read from the lab's own file, set by up.
kind=session

# libvirtd started by root is the system's one, whatever its folders: a session lab wants another user.
lab_user=${LAB_USER:-nobody}
as_user() {
  if [ "$(id -u)" = 0 ] && [ "$kind" = session ]; then
    setpriv --reuid="$lab_user" --regid="$(id -g "$lab_user")" --clear-groups -- "$@"
  else
    "$@"
  fi
}

host_uri() { # DIR NAME
  # The socket's path must fit into 107 bytes, so the folders under a session host have names of one letter.
  case $kind in
    session) printf 'qemu+unix:///session?socket=%s/%s/r/libvirt/libvirt-sock\n' "$1" "$2" ;;
    netns) printf 'qemu+unix:///system?socket=%s/%s/run/libvirt-sock\n' "$1" "$2" ;;
  esac
}

# Pids of the daemons and guests of the lab in this folder, also of those that are just being started.
lab_pids() {
  local file comm argv
  # grep looks at all of them in one process; only the few that it finds cost one each.
  for file in $(grep -lasF -- "$1/" /proc/[0-9]*/cmdline); do
    argv=$(tr '\0' '\n' 2> /dev/null < "$file") || continue
    read -r comm 2> /dev/null < "${file%cmdline}comm" || continue
    if [[ $comm == qemu-system-* || $argv == *libvirtd$'\n'* || $argv == *lab-host$'\n'* ]]; then
      file=${file#/proc/}
      printf '%s\n' "${file%/cmdline}"
    fi
  done
}

lab_folder() { # DIR: sets dir and kind
  [ -f "$1/lab" ] || die "$1 is no lab: deploy/lab/up makes one"
  dir=$(realpath "$1")
  # The file is empty where up was killed before it wrote to it.
  read -r kind < "$dir/lab" || kind=session
}

lab_host() { # DIR NAME: both are checked, sets dir and kind
  lab_folder "$1"
  [[ $2 =~ ^[a-z][a-z0-9-]*$ && -d $dir/$2 ]] || die "the lab has no host $2"
}

# The system's python: the user of the daemons may not reach another.
lab_python() { if [ -x /usr/bin/python3 ]; then echo /usr/bin/python3; else command -v python3; fi; }

start_daemon() { # DIR NAME: sets $started to the pid of what runs the daemon
  local d=$1/$2
  case $kind in
    session)
      as_user env -i PATH="$PATH" LANG=C HOME="$d/h" XDG_RUNTIME_DIR="$d/r" XDG_CONFIG_HOME="$d/c" \
        XDG_CACHE_HOME="$d/k" XDG_DATA_HOME="$d/s" setsid "$(lab_python)" -c "$(cat "$here/reaper.py")" \
        libvirtd -f "$d/c/libvirt/libvirtd.conf" > "$d/log" 2>&1 < /dev/null &
      ;;
    netns)
      setsid nsenter --all --target "$(host_init "$1" "$2")" env -i PATH="$PATH" LANG=C HOME=/root \
        libvirtd --listen -f "$d/etc/libvirtd.conf" > "$d/log" 2>&1 < /dev/null &
      ;;
  esac
  # shellcheck disable=SC2034
  started=$!
  disown
}

wait_for_host() { # DIR NAME PID: prints NAME URI
  local uri deadline=$((SECONDS + 60))
  uri=$(host_uri "$1" "$2")
  until virsh -q -c "$uri" version > /dev/null 2>&1; do
    if ! kill -0 "$3" 2> /dev/null || [ $SECONDS -ge $deadline ]; then
      cat "$1/$2/log" >&2
      die "the daemon of host $2 ended or does not answer"
    fi
    sleep 0.05
  done
  printf '%s %s\n' "$2" "$uri"
}

# --- hosts in namespaces of their own ------------------------------------------------------------------

# The prefix of the lab's network devices, the same for the same folder: what is to be removed is known
# without any record. A device's name has at most 15 letters.
net_prefix() { printf 'lab%s-' "$(printf %s "$1" | sha256sum | cut -c 1-8)"; }

remove_network() { # DIR
  local prefix device
  prefix=$(net_prefix "$1")
  for device in "/sys/class/net/$prefix"*; do
    [ ! -e "$device" ] || ip link delete "${device##*/}" 2> /dev/null || [ ! -e "$device" ]
  done
}

# The first process in the namespaces of a host, as seen from here; fails where there is none.
host_init() { # DIR NAME
  local pid
  for pid in $(lab_pids "$1/$2"); do
    if grep -q -P '^NSpid:\t\d+\t1$' "/proc/$pid/status" 2> /dev/null; then printf '%s\n' "$pid" && return; fi
  done
  return 1
}

in_network() { # DIR NAME COMMAND...: here, but for the network
  local init
  init=$(host_init "$1" "$2") || die "host $2 does not run"
  shift 2
  nsenter --net --target "$init" "$@"
}

choose_subnet() { # DIR: prints the first three numbers of a network that this machine has no route into
  local seed try subnet
  seed=$(printf %d "0x$(printf %s "$1" | sha256sum | cut -c 1-4)")
  for try in {0..99}; do
    subnet=10.$(((seed + try) / 256 % 256)).$(((seed + try) % 256))
    if [ -z "$(ip -4 route show root "$subnet.0/24")" ]; then printf '%s\n' "$subnet" && return; fi
  done
  die "no network of 10.0.0.0/8 is free on this machine"
}

start_namespaces() { # DIR NAME: what becomes of the host when it is killed: nothing
  rm -f "$1/$2/ready"
  setsid unshare --mount --net --uts --ipc --pid --fork --kill-child \
    bash "$here/namespaces.sh" lab-host "$1/$2/" > "$1/$2/log" 2>&1 < /dev/null &
  # shellcheck disable=SC2034
  started=$!
  disown
}
