#!/usr/bin/env bash
# Makes a folder that runs where nothing can be installed: the program, our libraries, LibTorch's and Debian's that they
# need, configurations, launch scripts, licences. A node needs the GNU C library, and for GPUs NVIDIA's driver.
#
#   scripts/package.sh FOLDER [--archive] [--without-cuda]
#
#   --archive        FOLDER.tar.zst too
#   --without-cuda   leave out liblorikeet_cuda.so and some gigabytes that only it needs
#
# LORIKEET_BUILD names the build folder (scripts/build.sh fills it).
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

folder='' has_archive='' with_cuda=yes
for argument; do
  case $argument in
    --archive) has_archive=yes ;;
    --without-cuda) with_cuda= ;;
    -*) fail "unknown option '$argument'" "scripts/package.sh FOLDER [--archive] [--without-cuda]" ;;
    *) folder=$(realpath -m "$argument") ;;
  esac
done
[ -n "$folder" ] || fail "no folder was named" "scripts/package.sh FOLDER [--archive] [--without-cuda]"
[ ! -e "$folder" ] || fail "$folder: is there already" "name another, or remove it"
[ -x "$build_dir/lorikeet" ] || fail "$build_dir/lorikeet: is not built" "scripts/build.sh"
command -v patchelf >/dev/null || fail "patchelf is missing" "run as root:  apt-get install patchelf"
[ -e "$build_dir/liblorikeet_cuda.so" ] || with_cuda=

# The C library stays the node's: it belongs to its kernel, its name service and its loader.
c_library='ld-linux-.*|lib(c|m|dl|rt|pthread|util|resolv|anl|mvec|nsl|BrokenLocale|thread_db)'
# Not part of any package: the driver's.
driver='lib(cuda|nvidia-.*)'

# libraries_of FILE...: paths of the shared libraries that the loader finds for them, in the order of its search
libraries_of() {
  ldd "$@" | awk '/=> not found/ {print "missing " $1} $2 == "=>" && $3 ~ /^\// {print $3}' | sort -u |
    grep -Ev "/($c_library)\.so" | grep -Ev "^missing $driver\.so" || true
}

# What LibTorch's CUDA half opens by name when it is used, so that ldd doesn't show it.
opened_by_name() {
  local torch_lib=$1 found
  for found in "$torch_lib"/lib{torch_cuda_linalg,caffe2_nvrtc}.so "$torch_lib"/lib{cudnn,nvrtc}*.so* \
    "$torch_lib"/../../nvidia/cudnn/lib/libcudnn*.so.* \
    "$torch_lib"/../../nvidia/cu*/lib/lib{nvrtc,nvrtc-builtins,cusolver,nvJitLink}.so.*; do
    [ ! -e "$found" ] || echo "$found"
  done
}

# owner_of LIBRARY: the Debian package or wheel that it came with; the path may lead through a link
owner_of() {
  local site=${1%%/site-packages/*}/site-packages record owner
  if [ -d "$site" ]; then
    record=$(grep -lFs "${1#"$site"/}," "$site"/*.dist-info/RECORD | head -n 1) || true
    [ -z "$record" ] || dirname "$record"
  else
    for path in "$1" "$(realpath "$1")" "/usr$1" "${1#/usr}"; do
      owner=$(dpkg-query -S "$path" 2>/dev/null | cut -d: -f1) || continue
      echo "$owner"
      break
    done
  fi
}

# copy_texts OWNER: under which licence it is passed on, to licences/OWNER-FILE
copy_texts() {
  local text
  if [ -d "$1" ]; then
    while read -r text; do
      cp "$text" "$staging/licences/$(basename "$1" .dist-info)-$(basename "$text")"
    done < <(find "$1" -type f \( -iname '*licen[sc]e*' -o -iname 'NOTICE*' \))
  else
    cp "/usr/share/doc/$1/copyright" "$staging/licences/$1-copyright"
  fi
}

say "collecting libraries"
ours=("$build_dir"/liblorikeet_ops.so)
[ -z "$with_cuda" ] || ours+=("$build_dir"/liblorikeet_cuda.so)
mapfile -t libraries < <(libraries_of "$build_dir/lorikeet" "${ours[@]}" | grep -v '/liblorikeet_')
if missing=$(printf '%s\n' "${libraries[@]}" | grep '^missing '); then
  fail "shared libraries were not found: ${missing//missing /}" "build again: scripts/build.sh"
fi
torch_lib=$(dirname "$(printf '%s\n' "${libraries[@]}" | grep '/libtorch_cpu\.so$')")
if [ -n "$with_cuda" ]; then
  mapfile -t extra < <(opened_by_name "$torch_lib")
  mapfile -t needed < <(libraries_of "${extra[@]}" | grep -v '^missing ')
  libraries+=("${extra[@]}" "${needed[@]}")
fi
mapfile -t libraries < <(realpath -s "${libraries[@]}" | sort -u)

say "copying to $folder"
staging=$folder.new
rm -rf "$staging"
mkdir -p "$staging"/{bin,lib,scripts,licences}
cp "$build_dir/lorikeet" "$staging/bin/"
# By the names that the loader looks for; links are followed.
cp --dereference --reflink=auto "${ours[@]}" "${libraries[@]}" "$staging/lib/"
cp -r "$source_dir/configs" "$staging/"
cp -r "$source_dir/scripts/launch" "$staging/scripts/"
cp "$source_dir/LICENSE" "$staging/"
cp "$source_dir/docs/licences.md" "$staging/licences/README.md"

# Debian's libraries find each other through the program's run path only if it is of the older kind, which holds for
# libraries of libraries too. LibTorch's and NVIDIA's have their own, which end in $ORIGIN, their own folder.
# shellcheck disable=SC2016  # the loader reads $ORIGIN
patchelf --force-rpath --set-rpath '$ORIGIN/../lib' "$staging/bin/lorikeet"
for library in "${ours[@]}"; do
  # shellcheck disable=SC2016
  patchelf --force-rpath --set-rpath '$ORIGIN' "$staging/lib/$(basename "$library")"
done

say "collecting licences"
# Beside the libraries' owners those whose headers are compiled in.
for owner in libcli11-dev nlohmann-json3-dev $(for library in "${libraries[@]}"; do owner_of "$library"; done | sort -u); do
  copy_texts "$owner"
done

glibc=$(find "$staging/bin" "$staging/lib" -type f -exec readelf -V {} + 2>/dev/null |
  grep -oE 'GLIBC_[0-9]+\.[0-9]+' | sort -uV | tail -n 1)
{
  LD_LIBRARY_PATH='' "$staging/bin/lorikeet" --version
  echo "holds:     CUDA's libraries: ${with_cuda:-no}"
  echo "needs:     x86-64 Linux with the GNU C library ${glibc#GLIBC_} or later"
} >"$staging/VERSION"
mv "$staging" "$folder"
say "$folder: $(du -sh "$folder" | cut -f1), needs glibc ${glibc#GLIBC_}"

if [ -n "$has_archive" ]; then
  say "packing $folder.tar.zst"
  tar -C "$(dirname "$folder")" --owner=0 --group=0 --sort=name -cf - "$(basename "$folder")" |
    zstd -q -T0 -3 -f -o "$folder.tar.zst"
  say "$folder.tar.zst: $(du -sh "$folder.tar.zst" | cut -f1)"
fi
