# lorikeet_room(NAME [USES room...] [TORCH] [SHARED] [LIBRARIES lib...])
#
# One library from src/NAME/*.cpp and one folder below. USES names rooms above it (CMake refuses a later one, since its target
# does not exist yet; tests/house checks the #includes). TORCH rooms see LibTorch through one shared
# precompiled header; the others compile without it in a tenth of the time.
function(lorikeet_room name)
  cmake_parse_arguments(ROOM "TORCH;SHARED" "" "USES;LIBRARIES" ${ARGN})
  lorikeet_record_room(${name} "${ROOM_TORCH}" "${ROOM_USES}")
  file(GLOB sources CONFIGURE_DEPENDS
    ${CMAKE_SOURCE_DIR}/src/${name}/*.cpp ${CMAKE_SOURCE_DIR}/src/${name}/*/*.cpp)
  list(FILTER sources EXCLUDE REGEX "/spdlog_sink\\.cpp$")  # cmake/LorikeetCore.cmake
  set(target lorikeet_${name})
  if(sources AND ROOM_SHARED)
    add_library(${target} SHARED ${sources})
    set_target_properties(${target} PROPERTIES DEFINE_SYMBOL "")  # or the precompiled header is refused
  elseif(sources)
    add_library(${target} STATIC ${sources})
  else()
    add_library(${target} INTERFACE)  # a room that is still empty
  endif()
  add_library(Lorikeet::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})

  set(scope PUBLIC)
  if(NOT sources)
    set(scope INTERFACE)
  endif()
  target_include_directories(${target} ${scope}
    $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>)
  target_compile_features(${target} ${scope} cxx_std_20)  # for whoever includes our headers too
  target_link_libraries(${target} ${scope} Lorikeet::fmt)
  foreach(used ${ROOM_USES})
    target_link_libraries(${target} ${scope} lorikeet_${used})
  endforeach()
  if(ROOM_TORCH)
    target_link_libraries(${target} ${scope} Lorikeet::libtorch)
  endif()
  if(sources)
    target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:lorikeet_flags> ${ROOM_LIBRARIES})
    if(ROOM_TORCH)
      lorikeet_precompile(${target})
    endif()
  endif()
endfunction()

# Keeps, for the house checks and for whoever asks, the rooms, those with LibTorch, and what each may
# include: itself and, transitively, what it uses.
function(lorikeet_record_room name torch uses)
  get_property(rooms GLOBAL PROPERTY LORIKEET_ROOMS)
  set(allowed ${name})
  foreach(used ${uses})
    if(NOT used IN_LIST rooms)
      message(FATAL_ERROR "room ${name} may not use ${used}: only rooms above it")
    endif()
    get_property(inherited GLOBAL PROPERTY LORIKEET_ROOM_${used})
    list(APPEND allowed ${inherited})
  endforeach()
  list(REMOVE_DUPLICATES allowed)
  set_property(GLOBAL PROPERTY LORIKEET_ROOM_${name} ${allowed})
  set_property(GLOBAL APPEND PROPERTY LORIKEET_ROOMS ${name})
  if(torch)
    set_property(GLOBAL APPEND PROPERTY LORIKEET_TORCH_ROOMS ${name})
    list(APPEND allowed torch)
  endif()
  list(JOIN allowed " " text)
  set_property(GLOBAL APPEND_STRING PROPERTY LORIKEET_ROOM_LINES "${name}: ${text}\n")
endfunction()

# <torch/torch.h> is parsed once for the whole build.
function(lorikeet_precompile target)
  if(NOT TARGET lorikeet_pch)
    file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/pch.cpp CONTENT "" @ONLY)
    add_library(lorikeet_pch OBJECT ${CMAKE_BINARY_DIR}/generated/pch.cpp)
    target_link_libraries(lorikeet_pch PRIVATE lorikeet_flags Lorikeet::fmt Lorikeet::libtorch)
    target_precompile_headers(lorikeet_pch PRIVATE <torch/torch.h>)
  endif()
  target_precompile_headers(${target} REUSE_FROM lorikeet_pch)
endfunction()
