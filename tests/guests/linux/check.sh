#!/bin/sh
# /init of the `linux` system: says which kernel this is, checks memory and time, and powers off.
# Nobody is there to type: a check that fails ends the machine with a panic, which is a failure to the system.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys

fail() {
    echo "init: FAILED: $1"
    exit 1 # the kernel panics without its init, and reboot=t panic=-1 make that a triple fault
}

# Hundredths of a second since boot.
now() {
    read -r uptime idle < /proc/uptime
    echo "${uptime%.*}${uptime#*.}"
}

uname -a
cat /proc/version
grep -e MemTotal -e MemAvailable /proc/meminfo

checksum || fail "memory does not keep what is written"

before=$(now)
sleep 1
after=$(now)
echo "init: sleep 1 took $(((after - before) * 10)) ms: uptime $before to $after hundredths"
[ $((after - before)) -ge 90 ] && [ $((after - before)) -le 150 ] || fail "a second is not a second"

grep -e MemAvailable /proc/meminfo
echo "init: all checks passed"
poweroff -f
