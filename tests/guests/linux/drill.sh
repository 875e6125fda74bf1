#!/bin/sh
# /init of a guest that is drilled over the control console: it checks its memory round after round until a line is typed.
# A check that fails ends the machine with a panic, which is a failure to the system.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

fail() {
    echo "init: FAILED: $1"
    exit 1 # the kernel panics without its init, and reboot=t panic=-1 make that a triple fault
}

(read -r word </dev/console && echo "$word" >/tmp/told) &

round=0
while [ ! -e /tmp/told ]; do
    checksum || fail "memory does not keep what is written"
    round=$((round + 1))
    echo "drill: round $round ok"
done

echo "drill: told $(cat /tmp/told) after $round rounds"
echo "init: all checks passed"
poweroff -f
