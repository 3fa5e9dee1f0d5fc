# `cmake --install build` and, in another project, find_package(Lorikeet): Lorikeet::core, Lorikeet::model
# and so on for each room, and Lorikeet::lorikeet for all of them.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(_package ${CMAKE_INSTALL_LIBDIR}/cmake/Lorikeet)

get_property(_rooms GLOBAL PROPERTY LORIKEET_ROOMS)
list(REMOVE_ITEM _rooms cuda)  # nothing links it
list(TRANSFORM _rooms PREPEND lorikeet_ OUTPUT_VARIABLE _targets)
add_library(lorikeet_all INTERFACE)
add_library(Lorikeet::lorikeet ALIAS lorikeet_all)
set_target_properties(lorikeet_all PROPERTIES EXPORT_NAME lorikeet)
target_link_libraries(lorikeet_all INTERFACE ${_targets})

install(TARGETS ${_targets} lorikeet_all EXPORT LorikeetTargets)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/ TYPE INCLUDE)
install(EXPORT LorikeetTargets NAMESPACE Lorikeet:: DESTINATION ${_package})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/LorikeetConfig.cmake.in
  ${CMAKE_BINARY_DIR}/generated/LorikeetConfig.cmake INSTALL_DESTINATION ${_package})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/generated/LorikeetConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES
  ${CMAKE_BINARY_DIR}/generated/LorikeetConfig.cmake
  ${CMAKE_BINARY_DIR}/generated/LorikeetConfigVersion.cmake
  ${CMAKE_CURRENT_LIST_DIR}/LorikeetTorch.cmake
  ${CMAKE_CURRENT_LIST_DIR}/LorikeetDependencies.cmake
  DESTINATION ${_package})
