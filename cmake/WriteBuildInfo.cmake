execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --abbrev=12 --exclude=*
  OUTPUT_VARIABLE COMMIT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT COMMIT)
  set(COMMIT unknown)
endif()
set(_text "#pragma once
#define LORIKEET_VERSION \"${VERSION}\"
#define LORIKEET_COMMIT \"${COMMIT}\"
#define LORIKEET_TORCH_VERSION \"${TORCH}\"
")
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "${_text}" @ONLY)
