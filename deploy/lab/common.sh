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

# Pids of the daemons and guests of the lab in this folder: every one of them has a path of it in its argv.
lab_pids() {
  local proc comm
  for proc in /proc/[0-9]*; do
    read -r comm 2> /dev/null < "$proc/comm" || continue
    case $comm in libvirtd | qemu-system-*) ;; *) continue ;; esac
    if tr '\0' '\n' < "$proc/cmdline" 2> /dev/null | grep -qF -- "$1/"; then printf '%s\n' "${proc#/proc/}"; fi
  done
}

lab_folder() {
  [ -f "$1/lab" ] || die "$1 is no lab: deploy/lab/up makes one"
  realpath "$1"
}
