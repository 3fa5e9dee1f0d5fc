# liblorikeet_cuda.so from src/cuda/*.{cpp,cu}. It may include what core and ops declare, LibTorch, the
# CUDA runtime and NCCL. Nothing links it: the program opens it (src/core/cuda_backend.cpp).
lorikeet_record_room(cuda TRUE "core;ops")
if(NOT LORIKEET_CUDA_FOUND)
  return()
endif()
file(GLOB _sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/cuda/*.cpp ${CMAKE_SOURCE_DIR}/src/cuda/*.cu)
add_library(lorikeet_cuda SHARED ${_sources})
set_target_properties(lorikeet_cuda PROPERTIES DEFINE_SYMBOL "")
target_include_directories(lorikeet_cuda PRIVATE ${CMAKE_SOURCE_DIR}/include)
target_include_directories(lorikeet_cuda SYSTEM PRIVATE
  ${CUDAToolkit_INCLUDE_DIRS} ${LORIKEET_NCCL_INCLUDE})
target_link_libraries(lorikeet_cuda PRIVATE lorikeet_flags Lorikeet::fmt Lorikeet::libtorch
  # needed even where no symbol of it is used: opening it registers LibTorch's CUDA operators
  -Wl,--no-as-needed,${LORIKEET_TORCH_ROOT}/lib/libtorch_cuda.so,--as-needed
  ${LORIKEET_TORCH_ROOT}/lib/libc10_cuda.so ${LORIKEET_CUDART} ${LORIKEET_NCCL})
target_link_options(lorikeet_cuda PRIVATE -Wl,--no-undefined)  # a missing symbol shows here, not on a GPU
lorikeet_precompile(lorikeet_cuda)
install(TARGETS lorikeet_cuda)
