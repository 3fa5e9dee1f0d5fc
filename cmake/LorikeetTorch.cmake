# LibTorch as targets of our own: Lorikeet::libtorch (torch_cpu and c10) and Lorikeet::fmt.
# This file is installed too: find_package(Lorikeet) finds LibTorch the same way.
#
# find_package(Torch) of a CUDA wheel stops where the CUDA toolkit is missing, and with one it forces its
# own architecture flags on every target. The files themselves are in fixed places, so they are imported
# directly: one way for the CPU and the CUDA build of LibTorch, with and without a toolkit.
#
# Searched, in this order: CMAKE_PREFIX_PATH (a LibTorch folder, a Python site-packages/torch, or what
# torch.utils.cmake_prefix_path prints), Torch_DIR, LORIKEET_TORCH_BUILT_WITH (an installed Lorikeet's own),
# and the virtual environment in LORIKEET_DEPS. Searched anew each time, so that a changed path is seen.
if(TARGET Lorikeet::libtorch)
  return()
endif()
set(_hints)
string(REPLACE ":" ";" _env_prefixes "$ENV{CMAKE_PREFIX_PATH}")
foreach(_prefix ${CMAKE_PREFIX_PATH} ${_env_prefixes})
  list(APPEND _hints ${_prefix}/../..)  # torch/share/cmake
endforeach()
if(Torch_DIR)
  list(APPEND _hints ${Torch_DIR}/../../..)
endif()
file(GLOB _venv_torch ${LORIKEET_DEPS}/venv/lib/python3*/site-packages/torch)
find_path(LORIKEET_TORCH_INCLUDE torch/csrc/api/include/torch/torch.h NO_CACHE PATH_SUFFIXES include
  HINTS ${_hints} PATHS ${LORIKEET_TORCH_BUILT_WITH} ${_venv_torch}
  NO_SYSTEM_ENVIRONMENT_PATH NO_CMAKE_SYSTEM_PATH)
if(NOT LORIKEET_TORCH_INCLUDE)
  message(FATAL_ERROR "LibTorch was not found.\n"
    "Run scripts/bootstrap.sh, or give your own: -DCMAKE_PREFIX_PATH=/path/to/libtorch")
endif()
get_filename_component(LORIKEET_TORCH_INCLUDE ${LORIKEET_TORCH_INCLUDE} ABSOLUTE)
get_filename_component(LORIKEET_TORCH_ROOT ${LORIKEET_TORCH_INCLUDE} DIRECTORY)

set(LORIKEET_TORCH_VERSION "before 2.11")
if(EXISTS ${LORIKEET_TORCH_INCLUDE}/torch/headeronly/version.h)
  file(STRINGS ${LORIKEET_TORCH_INCLUDE}/torch/headeronly/version.h _version_lines
    REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
  string(REGEX REPLACE ".*MAJOR ([0-9]+).*MINOR ([0-9]+).*PATCH ([0-9]+).*" "\\1.\\2.\\3"
    LORIKEET_TORCH_VERSION "${_version_lines}")
endif()
if(NOT LORIKEET_TORCH_VERSION VERSION_GREATER_EQUAL 2.11)
  message(FATAL_ERROR "LibTorch in ${LORIKEET_TORCH_ROOT} is ${LORIKEET_TORCH_VERSION}: "
    "2.11 or later is needed")
endif()
message(STATUS "LibTorch ${LORIKEET_TORCH_VERSION}: ${LORIKEET_TORCH_ROOT}")

foreach(_name c10 torch_cpu)
  add_library(Lorikeet::${_name} SHARED IMPORTED)
  set_target_properties(Lorikeet::${_name} PROPERTIES
    IMPORTED_LOCATION ${LORIKEET_TORCH_ROOT}/lib/lib${_name}.so)
endforeach()
add_library(Lorikeet::libtorch INTERFACE IMPORTED)
target_include_directories(Lorikeet::libtorch INTERFACE
  ${LORIKEET_TORCH_INCLUDE} ${LORIKEET_TORCH_INCLUDE}/torch/csrc/api/include)
target_link_libraries(Lorikeet::libtorch INTERFACE Lorikeet::torch_cpu Lorikeet::c10)
# Without -fopenmp at::parallel_for, a template in a header, is silently serial.
target_compile_options(Lorikeet::libtorch INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-fopenmp>)
target_link_options(Lorikeet::libtorch INTERFACE -fopenmp)

# fmt: the wheel's headers, header-only, for rooms that do not see LibTorch too (one fmt in the program).
add_library(Lorikeet::fmt INTERFACE IMPORTED)
target_include_directories(Lorikeet::fmt INTERFACE ${LORIKEET_TORCH_INCLUDE})
target_compile_definitions(Lorikeet::fmt INTERFACE FMT_HEADER_ONLY)
