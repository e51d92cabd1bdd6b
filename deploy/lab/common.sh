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
