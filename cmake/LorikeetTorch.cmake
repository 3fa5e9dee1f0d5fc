# LibTorch as targets of our own.
#
# find_package(Torch) of a CUDA wheel stops where the CUDA toolkit is missing, and with one it forces its
# own architecture flags on every target. The files themselves are in fixed places, so they are imported
# directly: one way for the CPU and the CUDA build of LibTorch, with and without a toolkit.
#
# Searched: CMAKE_PREFIX_PATH (a LibTorch folder, or a Python site-packages/torch), then the virtual
# environment that scripts/bootstrap.sh makes in LORIKEET_DEPS.
set(_deps $ENV{LORIKEET_DEPS})
if(NOT _deps)
  set(_deps $ENV{HOME}/.cache/lorikeet)
endif()
file(GLOB _venv_torch ${_deps}/venv/lib/python3*/site-packages/torch)

find_path(LORIKEET_TORCH_INCLUDE torch/csrc/api/include/torch/torch.h PATH_SUFFIXES include
  HINTS ${Torch_DIR}/../../.. PATHS ${_venv_torch} NO_CMAKE_SYSTEM_PATH)
if(NOT LORIKEET_TORCH_INCLUDE)
  message(FATAL_ERROR "LibTorch was not found.\n"
    "Run scripts/bootstrap.sh, or give your own: -DCMAKE_PREFIX_PATH=/path/to/libtorch")
endif()
get_filename_component(LORIKEET_TORCH_ROOT ${LORIKEET_TORCH_INCLUDE} DIRECTORY)

file(STRINGS ${LORIKEET_TORCH_INCLUDE}/torch/headeronly/version.h _version_lines
  REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
string(REGEX REPLACE ".*MAJOR ([0-9]+).*MINOR ([0-9]+).*PATCH ([0-9]+).*" "\\1.\\2.\\3"
  LORIKEET_TORCH_VERSION "${_version_lines}")
if(LORIKEET_TORCH_VERSION VERSION_LESS 2.11)
  message(FATAL_ERROR "LibTorch ${LORIKEET_TORCH_VERSION} in ${LORIKEET_TORCH_ROOT} is too old: 2.11 or later is needed")
endif()

foreach(_name c10 torch_cpu torch)
  add_library(Lorikeet::${_name} SHARED IMPORTED GLOBAL)
  set_target_properties(Lorikeet::${_name} PROPERTIES
    IMPORTED_LOCATION ${LORIKEET_TORCH_ROOT}/lib/lib${_name}.so)
endforeach()
add_library(lorikeet_torch INTERFACE)
add_library(Lorikeet::libtorch ALIAS lorikeet_torch)
target_include_directories(lorikeet_torch SYSTEM INTERFACE
  ${LORIKEET_TORCH_INCLUDE} ${LORIKEET_TORCH_INCLUDE}/torch/csrc/api/include)
target_link_libraries(lorikeet_torch INTERFACE Lorikeet::torch_cpu Lorikeet::c10)

# fmt: the wheel's headers, header-only, for rooms that do not see LibTorch too (one fmt in the program).
add_library(lorikeet_fmt INTERFACE)
target_include_directories(lorikeet_fmt SYSTEM INTERFACE ${LORIKEET_TORCH_INCLUDE})
target_compile_definitions(lorikeet_fmt INTERFACE FMT_HEADER_ONLY)
message(STATUS "LibTorch ${LORIKEET_TORCH_VERSION}: ${LORIKEET_TORCH_ROOT}")
