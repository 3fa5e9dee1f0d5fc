# Language level, optimisation, warnings and ccache for everything that is ours.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release or Debug" FORCE)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2")  # asserts stay on; -DNDEBUG would hide ours and LibTorch's
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
set(CMAKE_INSTALL_LIBDIR lib)  # also where GNUInstallDirs would say lib/x86_64-linux-gnu
# An installed program finds the LibTorch it was built with. The build has the same relative entries, or
# CMake would pad its run path with empty ones, which mean "the current folder".
set(CMAKE_INSTALL_RPATH "$ORIGIN;$ORIGIN/../lib")
set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON)
set(CMAKE_BUILD_RPATH "$ORIGIN;$ORIGIN/../lib")

# Where scripts/bootstrap.sh installs; scripts/build.sh names it, a hand-made configuration reads the
# environment once.
set(_deps $ENV{LORIKEET_DEPS})
if(NOT _deps)
  set(_deps $ENV{HOME}/.cache/lorikeet)
endif()
set(LORIKEET_DEPS ${_deps} CACHE PATH "The folder that scripts/bootstrap.sh installs into")

option(LORIKEET_WERROR "Treat warnings in our own code as errors" ON)
add_library(lorikeet_flags INTERFACE)
# -fPIC for programs too, instead of CMake's -fPIE: they share one precompiled header with the libraries.
target_compile_options(lorikeet_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-fPIC>
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra>)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # false alarms on std::string::insert and replace: GCC's bug 105651
  target_compile_options(lorikeet_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
if(LORIKEET_WERROR)
  target_compile_options(lorikeet_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>
    $<$<COMPILE_LANGUAGE:CUDA>:--Werror=all-warnings>)
endif()

# ccache that hits across clones: paths inside the checkout are hashed relative to the build folder, and
# the cache lies with the dependencies. The precompiled header needs the two sloppiness words for "pch",
# and -fpch-preprocess lets ccache see which one a file used.
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(_cache_folder $ENV{CCACHE_DIR})
  if(NOT _cache_folder)
    set(_cache_folder ${LORIKEET_DEPS}/ccache)
  endif()
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_DIR=${_cache_folder}
    CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
    CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
    ${CCACHE_PROGRAM})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
  target_compile_options(lorikeet_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>)
endif()
