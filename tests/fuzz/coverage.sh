#!/bin/sh
# Stands before rustc where weir's own packages are compiled (RUSTC_WORKSPACE_WRAPPER), so that the fuzzer sees which
# ways an input takes through them. Libraries are compiled as ever, and only once.
case " $* " in
  *" --crate-name "*)
    exec "$@" -Cpasses=sancov-module \
      -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
      -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares ;;
  *) exec "$@" ;;
esac
