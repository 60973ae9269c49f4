#!/bin/bash
# Builds and runs every test: all suites in single precision, and the numeric ones again in double precision, where
# gradients agree with central differences to many digits. The last line is `N passed, N failed, N skipped`. Fails if
# a test failed, a build or a suite broke, or no test ran.
#
# Arguments are passed to `swift test`, in single precision only: scripts/test.sh --filter WireTests
set -uo pipefail
cd "$(dirname "$0")/.."

# A suite that hangs is ended after an hour; on a busy machine a healthy suite may take long.
minutes=60
# The seed of all random values in tests.
export RESS_CHANCE=${RESS_CHANCE:-$((RANDOM * 32768 + RANDOM))}
echo "RESS_CHANCE=$RESS_CHANCE repeats the random values of this run"
passed=0 failed=0 skipped=0 broken=0
scripts/moved.sh .build || exit 1
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# The counts come from Swift Testing's event stream (versioned, one JSON object a line), not from its text output. The id of a test
# ends with its source location, that of a suite does not. A test that started and never ended (a crash, a hang) counts as failed.
count() {
  awk '
    function id() { match($0, /"testID":"([^"\\]|\\.)*"/); return substr($0, RSTART, RLENGTH) }
    /"kind":"test(Started|Ended|Skipped)"/ {
      test = id()
      if (test !~ /:[0-9]+:[0-9]+"$/) next
      if (/"kind":"testStarted"/) began[test] = 1
      else {
        delete began[test]
        if (/"kind":"testSkipped"/ || /"symbol":"skip"/) skipped++
        else if (/"symbol":"fail"/) failed++
        else passed++
      }
    }
    END {
      for (test in began) { failed++; print "   never ended: " test > "/dev/stderr" }
      print passed + 0, failed + 0, skipped + 0
    }' "$1" 2>&3
}

# suites TITLE NAME ARGUMENTS...: builds, runs `swift test ARGUMENTS`, and adds to the sums.
suites() {
  local title=$1 log=$logs/$2.log events=$logs/$2.jsonl code=0 p=0 f=0 s=0
  shift 2
  echo "== $title"
  : >"$events"
  if ! swift build --build-tests "${build[@]}" >"$log" 2>&1; then
    grep -E 'error:|warning:' "$log" || tail -40 "$log"
    echo "   $title: the build failed"
    broken=1
    return
  fi
  grep -E 'warning:' "$log"
  timeout --kill-after=10 "${minutes}m" swift test --skip-build "${build[@]}" "$@" \
    --event-stream-output-path "$events" --event-stream-version 0 >"$log" 2>&1 || code=$?
  read -r p f s < <(count "$events")
  if [ "$code" -ne 0 ] || [ "$f" -gt 0 ]; then
    grep -E '^(✘|↳|±)|error:|[Ff]atal error|signal code' "$log" | sed -n '1,200p'
    [ "$code" -eq 124 ] && echo "   $title: stopped after $minutes minutes"
    # Report a failure that no test explains.
    [ "$f" -gt 0 ] || { tail -20 "$log"; echo "   $title: 'swift test' ended with code $code"; broken=1; }
  fi
  [ $((p + f)) -gt 0 ] || { echo "   $title: no test ran"; broken=1; }
  echo "   $p passed, $f failed, $s skipped"
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

exec 3>&2
build=(-c release)
suites "single precision" single "$@"
if [ $# -eq 0 ]; then
  export RESS_DOUBLE=1
  build=(-c release --scratch-path .build-double)
  suites "double precision" double
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$broken" -eq 0 ] && [ "$passed" -gt 0 ]
