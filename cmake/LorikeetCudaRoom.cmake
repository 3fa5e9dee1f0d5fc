# liblorikeet_cuda.so from src/cuda/*.{cpp,cu}, and from src/ops/cuda/ what needs nvcc or LibTorch's CUDA half. It may
# include what core, ops and parallel declare, LibTorch, the
# CUDA runtime and NCCL. Nothing links it: the program opens it (src/core/cuda_backend.cpp).
lorikeet_record_room(cuda TRUE "core;ops;parallel")
if(NOT LORIKEET_CUDA_FOUND)
  return()
endif()
file(GLOB _sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/cuda/*.cpp ${CMAKE_SOURCE_DIR}/src/cuda/*.cu
  ${CMAKE_SOURCE_DIR}/src/ops/cuda/*.cu ${CMAKE_SOURCE_DIR}/src/ops/cuda/host/*.cpp)
# Kernels see the device interface's CUDA side; tests/emulation/ gives them the other one.
set(_kernel_includes ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/src/ops/cuda/nvcc)
set_source_files_properties(${CMAKE_SOURCE_DIR}/src/ops/cuda/host/merged_ffn.cpp PROPERTIES
  SKIP_PRECOMPILE_HEADERS ON)
add_library(lorikeet_cuda SHARED ${_sources})
set_target_properties(lorikeet_cuda PROPERTIES DEFINE_SYMBOL "")
target_include_directories(lorikeet_cuda PRIVATE ${CMAKE_SOURCE_DIR}/include ${_kernel_includes})
target_include_directories(lorikeet_cuda SYSTEM PRIVATE
  ${CUDAToolkit_INCLUDE_DIRS} ${LORIKEET_NCCL_INCLUDE})
target_link_libraries(lorikeet_cuda PRIVATE lorikeet_flags Lorikeet::fmt Lorikeet::libtorch lorikeet_ops
  # needed even where no symbol of it is used: opening it registers LibTorch's CUDA operators
  -Wl,--no-as-needed,${LORIKEET_TORCH_ROOT}/lib/libtorch_cuda.so,--as-needed
  ${LORIKEET_TORCH_ROOT}/lib/libc10_cuda.so ${LORIKEET_CUDART} ${LORIKEET_NCCL})
target_link_options(lorikeet_cuda PRIVATE -Wl,--no-undefined)  # a missing symbol shows here, not on a GPU
lorikeet_precompile(lorikeet_cuda)
set_source_files_properties(${CMAKE_SOURCE_DIR}/src/cuda/nccl_backend.cpp PROPERTIES
  SKIP_PRECOMPILE_HEADERS ON COMPILE_DEFINITIONS USE_C10D_NCCL)
install(TARGETS lorikeet_cuda)
