#!/bin/bash
# scripts/prepare-bible.sh FOLDER: writes the King James Bible as text, one file for each of its 66 books, one verse a line.
# 4 MB of public-domain English from the Debian package bible-kjv; nothing else is downloaded.
set -euo pipefail
folder=${1:?usage: scripts/prepare-bible.sh FOLDER}

if ! command -v bible >/dev/null; then
  echo "The program 'bible' is missing; install the package bible-kjv, or bring your own text: make demo TEXT=folder" >&2
  exit 1
fi

rm -rf "$folder.tmp"
mkdir -p "$folder.tmp"
# A line is "Ge1:1 In the beginning …". The reference is removed, because a model should learn the words.
bible -f gen1:1-rev22:21 </dev/null | awk -v folder="$folder.tmp" '
  match($0, /^[1-3]?[A-Za-z]+[0-9]+:[0-9]+ /) {
    place = substr($0, 1, RLENGTH)
    match(place, /[0-9]+:/)
    book = substr(place, 1, RSTART - 1)
    if (book != last) {
      if (file) close(file)
      file = sprintf("%s/%02d-%s.txt", folder, ++books, book)
      last = book
    }
    print substr($0, length(place) + 1) > file
  }'

bytes=$(cat "$folder.tmp"/*.txt | wc -c) books=$(find "$folder.tmp" -name '*.txt' | wc -l)
if [ "$books" -ne 66 ] || [ "$bytes" -lt 4000000 ]; then
  echo "'bible' printed $bytes bytes in $books books, but 66 books with 4 MB were expected" >&2
  exit 1
fi
rm -rf "$folder"
mv "$folder.tmp" "$folder"
echo "$books books, $bytes bytes of text in $folder"
