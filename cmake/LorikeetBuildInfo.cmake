# build/generated/lorikeet_build_info.h: version, commit and library versions, for `lorikeet --version`.
# The commit is read at build time; the header changes, and its one user recompiles, only when it does.
set(LORIKEET_BUILD_INFO ${CMAKE_BINARY_DIR}/generated/lorikeet_build_info.h)
add_custom_target(lorikeet_build_info
  COMMAND ${CMAKE_COMMAND} -DOUTPUT=${LORIKEET_BUILD_INFO} -DSOURCE=${CMAKE_SOURCE_DIR}
    -DVERSION=${PROJECT_VERSION} -DTORCH=${LORIKEET_TORCH_VERSION}
    "-DCUDA=${LORIKEET_CUDA_SUMMARY}" "-DNCCL=${LORIKEET_NCCL_SUMMARY}"
    -P ${CMAKE_CURRENT_LIST_DIR}/WriteBuildInfo.cmake
  BYPRODUCTS ${LORIKEET_BUILD_INFO} VERBATIM)
