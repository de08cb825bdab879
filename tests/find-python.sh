#!/bin/sh
# find-python.sh 3.13: prints the path of a Python of that version that runs and can make a virtual environment, of PATH
# or of a version manager's folders; exits with 1 where there is none. A manager's shim may be on PATH and fail.
version=$1
for candidate in \
  "python$version" \
  "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python"$version" \
  "${UV_PYTHON_INSTALL_DIR:-${XDG_DATA_HOME:-$HOME/.local/share}/uv/python}"/cpython-"$version".*/bin/python"$version" \
  "${ASDF_DATA_DIR:-$HOME/.asdf}/installs/python/$version".*/bin/python"$version" \
  "${MISE_DATA_DIR:-${XDG_DATA_HOME:-$HOME/.local/share}/mise}/installs/python/$version".*/bin/python"$version"
do
  if "$candidate" -c "import ensurepip, sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" >/dev/null 2>&1
  then
    echo "$candidate"
    exit 0
  fi
done
exit 1
