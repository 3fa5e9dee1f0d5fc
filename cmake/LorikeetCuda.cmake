# LORIKEET_CUDA: whether liblorikeet_cuda.so is built. The program and liblorikeet_ops.so link torch_cpu
# and c10 only; what needs nvcc, libtorch_cuda or NCCL is in that library, which the program opens at run
# time where a GPU driver is present (include/lorikeet/core/cuda_backend.h).
#
#   AUTO  where nvcc, LibTorch's CUDA half, its CUDA runtime and NCCL are all found and fit together
#   ON    an error where one of them is missing or unfit
#   OFF   never
set(LORIKEET_CUDA AUTO CACHE STRING "Build the CUDA half: AUTO, ON or OFF")
set_property(CACHE LORIKEET_CUDA PROPERTY STRINGS AUTO ON OFF)
set(LORIKEET_CUDA_SUMMARY "not built")
set(LORIKEET_NCCL_SUMMARY "not built")
set(LORIKEET_CUDA_FOUND FALSE)

# Sets LORIKEET_CUDA_MISSING to the first thing that is missing or unfit, and the paths of what was found.
function(lorikeet_find_cuda)
  set(LORIKEET_CUDA_MISSING "" PARENT_SCOPE)
  find_program(LORIKEET_NVCC nvcc NO_CACHE HINTS ${CMAKE_CUDA_COMPILER} $ENV{CUDACXX}
    ${CUDAToolkit_ROOT}/bin $ENV{CUDA_HOME}/bin $ENV{CUDA_PATH}/bin PATHS /usr/local/cuda/bin)
  if(NOT LORIKEET_NVCC)
    set(LORIKEET_CUDA_MISSING "nvcc was not found (give its folder with -DCUDAToolkit_ROOT=...)"
      PARENT_SCOPE)
    return()
  endif()
  if(CMAKE_VERSION VERSION_LESS 3.31)
    set(LORIKEET_CUDA_MISSING "CMake ${CMAKE_VERSION} cannot set C++20 for nvcc: 3.31 is needed \
(scripts/bootstrap.sh installs one in ${LORIKEET_DEPS}/venv/bin)" PARENT_SCOPE)
    return()
  endif()
  set(torch_lib ${LORIKEET_TORCH_ROOT}/lib)
  if(NOT EXISTS ${torch_lib}/libtorch_cuda.so OR NOT EXISTS ${torch_lib}/libc10_cuda.so)
    set(LORIKEET_CUDA_MISSING "LibTorch in ${LORIKEET_TORCH_ROOT} was built without CUDA" PARENT_SCOPE)
    return()
  endif()
  # The runtime must be the one LibTorch uses: two CUDA runtimes in one process do not share a context.
  execute_process(COMMAND ${CMAKE_READELF} -d ${torch_lib}/libc10_cuda.so
    OUTPUT_VARIABLE needed ERROR_QUIET)
  string(REGEX MATCH "(libcudart[^]]*\\.so\\.([0-9]+)[^]]*)\\]" ignored "${needed}")
  set(runtime_name ${CMAKE_MATCH_1})
  set(runtime_major ${CMAKE_MATCH_2})
  get_filename_component(toolkit ${LORIKEET_NVCC} DIRECTORY)
  get_filename_component(toolkit ${toolkit} DIRECTORY)
  get_filename_component(real_torch ${LORIKEET_TORCH_ROOT} REALPATH)
  find_file(LORIKEET_CUDART ${runtime_name} NO_CACHE NO_DEFAULT_PATH PATHS ${torch_lib}
    ${LORIKEET_TORCH_ROOT}/../nvidia/cu${runtime_major}/lib ${real_torch}/../nvidia/cu${runtime_major}/lib
    ${LORIKEET_TORCH_ROOT}/../nvidia/cuda_runtime/lib ${toolkit}/lib64)
  if(NOT LORIKEET_CUDART)
    set(LORIKEET_CUDA_MISSING "LibTorch's CUDA runtime, ${runtime_name}, was not found" PARENT_SCOPE)
    return()
  endif()
  execute_process(COMMAND ${LORIKEET_NVCC} --version OUTPUT_VARIABLE nvcc_says ERROR_VARIABLE nvcc_says)
  string(REGEX MATCH "release ([0-9]+)\\.[0-9]+" nvcc_release "${nvcc_says}")
  if(NOT CMAKE_MATCH_1 STREQUAL runtime_major)
    if(NOT nvcc_release)
      set(nvcc_release "an unknown release")
    endif()
    set(LORIKEET_CUDA_MISSING "${LORIKEET_NVCC} is of ${nvcc_release}, not of LibTorch's CUDA \
${runtime_major} (name another toolkit with -DCUDAToolkit_ROOT=...)" PARENT_SCOPE)
    return()
  endif()
  set(nccl_folders ${LORIKEET_TORCH_ROOT}/../nvidia/nccl ${real_torch}/../nvidia/nccl)
  find_path(LORIKEET_NCCL_INCLUDE nccl.h NO_CACHE HINTS ${nccl_folders} PATH_SUFFIXES include)
  find_file(LORIKEET_NCCL libnccl.so.2 NO_CACHE HINTS ${nccl_folders} PATH_SUFFIXES lib)
  if(NOT LORIKEET_NCCL_INCLUDE OR NOT LORIKEET_NCCL)
    set(LORIKEET_CUDA_MISSING "NCCL (nccl.h, libnccl.so.2) was not found" PARENT_SCOPE)
    return()
  endif()
  foreach(name NVCC CUDART NCCL_INCLUDE NCCL)
    set(LORIKEET_${name} ${LORIKEET_${name}} PARENT_SCOPE)
  endforeach()
endfunction()

string(TOUPPER "${LORIKEET_CUDA}" _wish)
if(NOT _wish MATCHES "^(AUTO|ON|YES|TRUE|Y|1|OFF|NO|FALSE|N|0)$")
  message(FATAL_ERROR "LORIKEET_CUDA is '${LORIKEET_CUDA}': it must be AUTO, ON or OFF.")
endif()
if(_wish STREQUAL "AUTO" OR _wish)
  lorikeet_find_cuda()
  if(LORIKEET_CUDA_MISSING AND _wish STREQUAL "AUTO")
    message(STATUS "CUDA: not built, ${LORIKEET_CUDA_MISSING}")
  elseif(LORIKEET_CUDA_MISSING)
    message(FATAL_ERROR "LORIKEET_CUDA is ON, but ${LORIKEET_CUDA_MISSING}.\n"
      "Install what is missing, or configure with -DLORIKEET_CUDA=AUTO or OFF.")
  else()
    set(LORIKEET_CUDA_FOUND TRUE)
  endif()
else()
  message(STATUS "CUDA: not built, LORIKEET_CUDA is OFF")
endif()

if(LORIKEET_CUDA_FOUND)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80 90 100 CACHE STRING "GPU architectures: A100, H100, B200")
  endif()
  set(CMAKE_CUDA_COMPILER ${LORIKEET_NVCC})
  set(CMAKE_CUDA_RUNTIME_LIBRARY None)  # LibTorch's own, linked by name
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  list(TRANSFORM CMAKE_CUDA_ARCHITECTURES PREPEND sm_ OUTPUT_VARIABLE _architectures)
  list(JOIN _architectures ", " _architectures)
  set(LORIKEET_CUDA_SUMMARY "${CUDAToolkit_VERSION} (${_architectures})")
  file(STRINGS ${LORIKEET_NCCL_INCLUDE}/nccl.h _nccl REGEX "define NCCL_(MAJOR|MINOR|PATCH) ")
  string(REGEX REPLACE ".*MAJOR ([0-9]+).*MINOR ([0-9]+).*PATCH ([0-9]+).*" "\\1.\\2.\\3"
    LORIKEET_NCCL_SUMMARY "${_nccl}")
  message(STATUS "CUDA ${LORIKEET_CUDA_SUMMARY}, NCCL ${LORIKEET_NCCL_SUMMARY}")
endif()
