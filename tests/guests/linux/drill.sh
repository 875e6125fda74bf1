#!/bin/sh
# /init of a guest that is drilled over the control console: it checks its memory round after round until it is told to stop.
# Meanwhile it reads and writes pages that are not its RAM: `sum FIRST COUNT` and `zero FIRST COUNT`, by their numbers.
# A check that fails ends the machine with a panic, which is a failure to the system.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

fail() {
    echo "init: FAILED: $1"
    exit 1 # the kernel panics without its init, and reboot=t panic=-1 make that a triple fault
}

while read -r word first count; do
    case "$word" in
    sum)
        dd if=/dev/mem of=/tmp/pages bs=4096 skip="$first" count="$count" 2>/dev/null
        sum=$(crc32 /tmp/pages)
        echo "drill: sum ${sum%% *}"
        rm /tmp/pages
        ;;
    zero)
        dd if=/dev/zero of=/dev/mem bs=4096 seek="$first" count="$count" conv=notrunc 2>/dev/null
        echo "drill: zeroed $count"
        ;;
    *)
        echo "$word" >/tmp/told
        break
        ;;
    esac
done </dev/console &

round=0
while [ ! -e /tmp/told ]; do
    checksum || fail "memory does not keep what is written"
    round=$((round + 1))
    echo "drill: round $round ok"
done

echo "drill: told $(cat /tmp/told) after $round rounds"
echo "init: all checks passed"
poweroff -f
