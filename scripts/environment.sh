# Sourced by the scripts beside it: makes the project's virtual environment and installs the pinned versions.
#   use_environment EXTRA [FOLDER]    afterwards $python is the environment's interpreter; FOLDER: default .venv
# The interpreter that makes it comes from PYTHON (default: python3); 3.11 or newer.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

minor_version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

fail() { echo "error: $*" >&2; exit 2; }

use_environment() {
  local extra=$1 base=${PYTHON:-python3} version venv=$root/${2:-.venv} stamp wanted log
  version=$(minor_version "$base") && [ -n "$version" ] || fail "no Python at '$base'; set PYTHON to an interpreter, 3.11 or newer"
  "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Python 3.11 or newer is needed, '$base' is $version; set PYTHON to a newer one"
  # One environment a Python version: the first one made has the plain name, others stand beside it.
  if [ -x "$venv/bin/python" ] && [ "$(minor_version "$venv/bin/python")" != "$version" ]; then
    venv=$venv-$version
  fi
  python=$venv/bin/python
  stamp=$venv/.installed-$extra
  wanted=$(cat "$root/pyproject.toml" "$root/scripts/constraints.txt" | cksum)
  if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted$root" ]; then return; fi
  log=$(mktemp)
  echo "Setting up ${venv#"$root"/} (Python $version), once; this takes a minute or two ..." >&2
  { [ -x "$python" ] || "$base" -m venv "$venv"; } >"$log" 2>&1 &&
    "$python" -m pip install --disable-pip-version-check --progress-bar off \
      --constraint "$root/scripts/constraints.txt" --editable "$root[$extra]" >>"$log" 2>&1 ||
    { tail -n 15 "$log" >&2; fail "the installation failed; the whole log is in $log"; }
  rm -f "$log"
  printf '%s' "$wanted$root" >"$stamp"
}
