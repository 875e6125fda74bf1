#!/bin/sh
# /init of the `linux` system with somebody at the console: a shell with job control.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

cat /proc/version
echo
echo "This is busybox in a guest of Faultline. \`checksum\` checks the guest's memory; \`poweroff -f\` ends it."
export HOME=/root PS1='guest:\w# ' TERM="${TERM:-vt100}"
cd /root
setsid cttyhack sh
poweroff -f
