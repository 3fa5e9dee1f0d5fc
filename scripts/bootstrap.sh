#!/usr/bin/env bash
# Installs what building and testing need and is not there yet; a second run takes a fraction of a second.
#
#   scripts/bootstrap.sh                 Debian packages, then the Python environment with LibTorch
#   scripts/bootstrap.sh --debian-only   the Debian packages only, for a LibTorch of your own
#
# Debian packages need root; without it the line to run as root is printed. The Python environment goes
# to $LORIKEET_DEPS/venv (default ~/.cache/lorikeet/venv), where every clone of the repository finds it.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
requirements=$source_dir/scripts/requirements.txt
stamp=$venv/lorikeet-installed.txt  # a copy of the requirements, written last

missing_debian_packages() {
  command -v dpkg-query >/dev/null ||
    fail "this is not Debian: dpkg-query is missing" \
      "install what scripts/debian-packages.txt names by other means, and see docs/building.md"
  local wanted present
  wanted=$(grep -v '^#' "$source_dir/scripts/debian-packages.txt" | sort)
  # shellcheck disable=SC2086  # one word a package
  present=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' $wanted 2>/dev/null |
    sed -n 's/^installed //p' | sort -u) || true
  comm -23 <(echo "$wanted") <(echo "$present") | paste -sd ' '
}

install_debian_packages() {
  local missing
  missing=$(missing_debian_packages)
  [ -n "$missing" ] || return 0
  local install="apt-get install -y --no-install-recommends $missing"
  [ "$(id -u)" = 0 ] ||
    fail "Debian packages are missing: $missing" "run as root:  apt-get update && $install"
  say "installing Debian packages: $missing"
  export DEBIAN_FRONTEND=noninteractive
  apt-get -q -o DPkg::Lock::Timeout=600 update ||
    fail "apt-get update failed" "look at its messages above: usually the network, or /etc/apt/sources.list"
  $install -q -o DPkg::Lock::Timeout=600 </dev/null ||
    fail "apt-get install failed" "look at its messages above; the command was: $install"
}

# Complete, and of these requirements?
is_environment_current() { [ -x "$venv/bin/python" ] && cmp -s "$requirements" "$stamp"; }

install_environment() {
  is_environment_current && return 0
  mkdir -p "$LORIKEET_DEPS"
  exec 9>"$LORIKEET_DEPS/lock"
  if ! flock -n 9; then
    say "waiting for another bootstrap.sh in $LORIKEET_DEPS"
    flock 9
  fi
  is_environment_current && return 0
  if [ -e "$venv" ] && [ ! -e "$stamp" ]; then
    say "an earlier installation was not finished: removing it"
    rm -rf "$venv"
  fi
  rm -f "$stamp"
  say "installing Python packages in $venv (about 3 GB to download, 6 GB on disk)"
  # Debian's own Python where there is one: python3-venv belongs to it.
  local python=${LORIKEET_PYTHON:-/usr/bin/python3}
  "$python" -m venv "$venv" ||
    fail "$python cannot make a virtual environment in $venv" "is the folder writable?"
  "$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off \
    -r "$requirements" </dev/null ||
    fail "pip could not install scripts/requirements.txt in $venv" \
      "look at its messages above (network? 10 GB of free space?), then run this again: it starts afresh"
  cp "$requirements" "$stamp.new"
  mv "$stamp.new" "$stamp"
}

install_debian_packages
if [ "${1-}" != --debian-only ]; then
  install_environment
fi
say "everything that is needed is installed"
