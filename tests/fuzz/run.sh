# SPDX-License-Identifier: Apache-2.0
# run.sh FUZZER CORPUS WORK: 30 s of fuzzing from a copy of the corpus.
set -eu
rm -rf "$3"
mkdir -p "$3/corpus"
if [ -d "$2" ]; then cp -r "$2/." "$3/corpus/"; fi
exec "$1" -max_total_time="${FUZZ_SECONDS:-30}" -timeout=10 -print_final_stats=1 \
  -artifact_prefix="$3/" "$3/corpus"
