#!/bin/bash
# The commit protocol as a model: all interleavings within bounds hold what is
# promised, and each way to get the protocol wrong is caught.
. "$(dirname "$0")/e2e_lib.bash"
if [ -x "$BIN/model_commit" ]; then
	short= # a sanitized one would take minutes
	[ "${VF_E2E_QUERIES:-0}" = 0 ] || short=-s
	model_commit $short || FAILED=1
else
	not_ok "the model" "model_commit is not built"
fi
