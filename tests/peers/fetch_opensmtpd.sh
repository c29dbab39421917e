#!/bin/sh
# Unpack Debian's OpenSMTPD into the cache, unless it is there: it and Postfix exclude one another.
set -eu
opensmtpd="${XDG_CACHE_HOME:-$HOME/.cache}/mailspool-peers/opensmtpd"
[ ! -x "$opensmtpd/usr/sbin/smtpd" ] || exit 0
apt-get update -qq
downloads=$(mktemp -d)
trap 'rm -rf "$downloads"' EXIT
chmod 755 "$downloads"
(cd "$downloads" && apt-get download -qq opensmtpd libevent-2.1-7 libdb5.3)
mkdir -p "$opensmtpd"
for package in "$downloads"/*.deb; do
    dpkg -x "$package" "$opensmtpd"
done
