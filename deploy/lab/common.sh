# Sourced by the lab's commands: what they share.
# shellcheck shell=bash

here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
export here
PATH=$PATH:/usr/sbin:/sbin

die() { printf '%s\n' "$*" >&2; exit 1; }

# libvirtd started by root is the system's one, whatever its folders: the lab wants a session daemon.
lab_user=${LAB_USER:-nobody}
as_user() {
  if [ "$(id -u)" = 0 ]; then
    setpriv --reuid="$lab_user" --regid="$(id -g "$lab_user")" --clear-groups -- "$@"
  else
    "$@"
  fi
}

# The socket's path must fit into 107 bytes, so the folders under a host have names of one letter.
host_uri() { printf 'qemu+unix:///session?socket=%s/%s/r/libvirt/libvirt-sock\n' "$1" "$2"; }

# Pids of the daemons and guests of the lab in this folder, also of those that are just being started.
lab_pids() {
  local proc comm argv
  for proc in /proc/[0-9]*; do
    argv=$(tr '\0' '\n' 2> /dev/null < "$proc/cmdline") || continue
    [[ $argv == *"$1/"* ]] || continue
    read -r comm 2> /dev/null < "$proc/comm" || continue
    if [[ $comm == qemu-system-* || $argv == *libvirtd$'\n'* ]]; then printf '%s\n' "${proc#/proc/}"; fi
  done
}

lab_folder() {
  [ -f "$1/lab" ] || die "$1 is no lab: deploy/lab/up makes one"
  realpath "$1"
}

start_host() { # DIR NAME: sets $started to the pid of what runs the daemon
  local d=$1/$2
  # The system's one: the user of the daemons may not reach another.
  local python=/usr/bin/python3
  [ -x "$python" ] || python=python3
  as_user env -i PATH="$PATH" LANG=C HOME="$d/h" XDG_RUNTIME_DIR="$d/r" XDG_CONFIG_HOME="$d/c" \
    XDG_CACHE_HOME="$d/k" XDG_DATA_HOME="$d/s" \
    setsid "$python" -c "$(cat "$here/reaper.py")" libvirtd -f "$d/c/libvirt/libvirtd.conf" > "$d/log" 2>&1 < /dev/null &
  # shellcheck disable=SC2034
  started=$!
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
