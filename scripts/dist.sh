#!/bin/bash
# `make dist`: an archive with one program that runs on a bare Debian 12 with the C libraries of `libraries.txt`.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install-packages.sh
scripts/moved.sh .build-dist
swift build -c release --static-swift-stdlib --scratch-path .build-dist --product ress
# In these pipes the reader must consume all input: under pipefail, a writer that gets SIGPIPE fails the script.
version=$(.build-dist/release/ress --version | sed -n '1s/^[^ ]* //p')
name=ress-$version-$(uname -m)
folder=dist/$name
rm -rf "$folder"
mkdir -p "$folder/bin" "$folder/share/man/man1" "$folder/share/bash-completion/completions"
install -m 755 .build-dist/release/ress "$folder/bin/ress"
strip "$folder/bin/ress"
if ldd "$folder/bin/ress" | grep -E 'libswift|Foundation|not found'; then
  echo "the program needs libraries that a bare Debian does not have" >&2
  exit 1
fi
"$folder/bin/ress" man >"$folder/share/man/man1/ress.1"
"$folder/bin/ress" completion >"$folder/share/bash-completion/completions/ress"
cp -rL README.md LICENSE docs configs cluster "$folder/"
# The MPI plug-in must be built on the machine that has the MPI (docs/mpi.md).
mkdir -p "$folder/share/mpi"
cp Sources/C/CMPI/ress_mpi.c Sources/C/CMPI/ress_mpi.h "$folder/share/mpi/"
# The Debian packages of the libraries that the program links to directly.
cache=$(ldconfig -p)
readelf -d "$folder/bin/ress" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | while read -r library; do
  path=$(awk -v name="$library" '$1 == name && !found++ {print $NF}' <<<"$cache")
  # dpkg-query knows the library under one of its paths, and fails for the others.
  { dpkg-query -S "$path" "$(readlink -f "$path")" "/usr${path#/usr}" 2>/dev/null || true; } | sed -n '1s/:.*//p'
done | sort -u >"$folder/libraries.txt"
tar -C dist --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(git log -1 --format=%ct 2>/dev/null || echo 0)" -czf "dist/$name.tar.gz" "$name"
(cd dist && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
echo "dist/$name.tar.gz, $(du -h "dist/$name.tar.gz" | cut -f1); it needs: $(paste -sd' ' "$folder/libraries.txt")"
