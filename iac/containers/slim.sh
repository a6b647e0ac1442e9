#!/bin/sh
# Drops from the packages in a virtual environment what no process here reads: debugging symbols (of xllamacpp alone
# 80 MB), the packages' own tests, the copy of onnxruntime that is there for programs in C, and the languages that
# pygments could colour. `slim.sh FOLDER`.
set -eu
cd "$1"
find . -type d -name tests -prune -exec rm -rf {} +
find . -path '*/pygments/lexers/*.py' ! -name '_*' -delete
rm -f lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so*
# Not the libraries that a wheel brings along (NAME.libs, nvidia): stripped already, and patched in ways strip may undo.
find . -name '*.so*' -type f ! -path '*.libs/*' ! -path '*/nvidia/*' -exec strip --strip-unneeded {} +
