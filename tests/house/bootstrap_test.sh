#!/usr/bin/env bash
# scripts/bootstrap.sh with a Python that only pretends to install: what is complete is kept, what is half
# finished is redone, and two at once install once. usage: bootstrap_test.sh SOURCE SCRATCH
set -euo pipefail
source=$1 scratch=$2
rm -rf "$scratch"
mkdir -p "$scratch/scripts"
cp "$source"/scripts/{bootstrap.sh,common.sh,debian-packages.txt,requirements.txt} "$scratch/scripts"
export LORIKEET_DEPS=$scratch/deps FAKE_LOG=$scratch/log LORIKEET_PYTHON=$scratch/python
cat >"$LORIKEET_PYTHON" <<'FAKE'
#!/usr/bin/env bash
set -e
echo "$2" >>"$FAKE_LOG"
case $2 in
  venv) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  pip) sleep "${FAKE_SECONDS:-0}" && [ -z "${FAKE_FAILS-}" ] ;;
esac
FAKE
chmod +x "$LORIKEET_PYTHON"

bootstrap() { "$scratch/scripts/bootstrap.sh" >"$scratch/output" 2>&1; }
# installs_are N WHY: how often pip was run so far
installs_are() {
  [ "$(grep -c pip "$FAKE_LOG")" = "$1" ] || { echo "$2"; cat "$scratch/output" "$FAKE_LOG"; exit 1; }
}

bootstrap
installs_are 1 "the first run installs"
bootstrap
installs_are 1 "the second run has nothing to do"
rm "$LORIKEET_DEPS/venv/lorikeet-installed.txt"
touch "$LORIKEET_DEPS/venv/left-over"
bootstrap
installs_are 2 "an installation without its stamp is redone"
[ ! -e "$LORIKEET_DEPS/venv/left-over" ] || { echo "what was half installed is still there"; exit 1; }
echo "another-package" >>"$scratch/scripts/requirements.txt"
if FAKE_FAILS=1 bootstrap; then
  echo "a failing pip was not noticed"
  exit 1
fi
grep -q '^hint: ' "$scratch/output" || { echo "a failing pip without a hint"; exit 1; }
bootstrap
installs_are 4 "other requirements, and a failed installation, are installed again"
rm -rf "$LORIKEET_DEPS"
FAKE_SECONDS=1 bootstrap &
FAKE_SECONDS=1 "$scratch/scripts/bootstrap.sh" >/dev/null 2>&1
wait $!
installs_are 5 "two at once install once"
echo "bootstrap.sh keeps what is complete and redoes the rest"
