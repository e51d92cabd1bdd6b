#!/usr/bin/env bash
# The first process of a host of a netns lab: mounts what is the host's own, and then collects what ends.
# When it dies the kernel kills all others of the host, and its namespaces and mounts go away.
#
#   unshare --mount --net --uts --ipc --pid --fork --kill-child namespaces.sh lab-host DIR/NAME/
set -euo pipefail
d=${2%/}
name=${d##*/}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
hostname "$name"
ip link set lo up

# The machine's own folders are covered: nothing is written there, nobody (dbus, a system libvirtd) is met.
for cover in /run /var/lib /var/log /var/cache; do mount -t tmpfs lab "$cover"; done
own() { mkdir -p "$2" && mount --bind "$d/$1" "$2"; }
own run /run/libvirt
own lib /var/lib/libvirt
own logs /var/log/libvirt
own cache /var/cache/libvirt
mount --bind "$d/etc" /etc/libvirt
for file in hosts passwd group; do
  [ ! -e "/etc/$file" ] || mount --bind "${d%/*}/$file" "/etc/$file"
done

touch "$d/ready"
reaper=$(dirname "$(realpath "$0")")/reaper.py
# The two last words are how the lab's commands know this process.
exec /usr/bin/python3 -c "$(cat "$reaper")" sh -c 'exec sleep infinity' lab-host "$d/"
