execute_process(
  COMMAND git -c safe.directory=* -C ${SOURCE} describe --always --dirty --abbrev=12 --exclude=*
  OUTPUT_VARIABLE COMMIT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT COMMIT)
  set(COMMIT unknown)
endif()
set(_text "#pragma once
#define LORIKEET_VERSION \"${VERSION}\"
#define LORIKEET_COMMIT \"${COMMIT}\"
#define LORIKEET_TORCH_VERSION \"${TORCH}\"
#define LORIKEET_CUDA_SUMMARY \"${CUDA}\"
#define LORIKEET_NCCL_SUMMARY \"${NCCL}\"
")
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "${_text}" @ONLY)
