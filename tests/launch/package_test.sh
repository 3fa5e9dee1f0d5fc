#!/usr/bin/env bash
# scripts/package.sh: what it packs runs, and trains, in a root folder that holds nothing but the C library; with CUDA
# built, every library of that half is found too. usage: package_test.sh SOURCE BUILD SCRATCH
set -euo pipefail
source=$1 build=$2 scratch=$3
unshare --mount true 2>/dev/null || { echo "skipped: not allowed to change the root folder"; exit 77; }
command -v patchelf >/dev/null || { echo "skipped: patchelf is not installed"; exit 77; }
rm -rf "$scratch"
mkdir -p "$scratch/root"/{proc,dev,tmp,opt}

LORIKEET_BUILD=$build "$source/scripts/package.sh" "$scratch/lorikeet" --archive
if LORIKEET_BUILD=$build "$source/scripts/package.sh" "$scratch/lorikeet" 2>"$scratch/error"; then
  echo "an existing folder was overwritten"
  exit 1
fi
grep -q "^error: $scratch/lorikeet: is there already" "$scratch/error"
[ ! -e "$scratch/lorikeet.new" ] || { echo "a folder was left half made"; exit 1; }

root=$scratch/root
for file in $(dpkg -L libc6 | grep -E '/(ld-linux.*|lib[^/]*)\.so(\.[0-9]+)?$'); do
  mkdir -p "$root$(dirname "$file")"
  cp --dereference "$file" "$root$file"
done
tar -C "$root/opt" --zstd -xf "$scratch/lorikeet.tar.zst"
cp "$source/data/quickstart/manual.jsonl.gz" "$root/tmp/"

# isolated COMMAND...: in that root, with an empty environment; for it alone are mounted /proc, by which the loader finds
# the program's folder, and /dev.
isolated() {
  # shellcheck disable=SC2016  # the inner shell's
  unshare --mount bash -c 'mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" &&
    exec env -i OMP_NUM_THREADS=1 "$(command -v chroot)" "$@"' bash "$root" "$@"
}
lorikeet() { isolated /opt/lorikeet/bin/lorikeet "$@"; }

lorikeet --version | grep '^LibTorch: *2\.' >/dev/null
for config in tiny.yaml paper/lory_0.3b_32e.yaml; do
  lorikeet pretrain "/opt/lorikeet/configs/$config" --dry-run | grep '^parameters' >/dev/null
done
lorikeet data tokenizer --input /tmp/manual.jsonl.gz --vocab-size 4096 --output /tmp/tokenizer.model >/dev/null
lorikeet data tokenize --input /tmp/manual.jsonl.gz --tokenizer /tmp/tokenizer.model --output /tmp/shards >/dev/null
lorikeet pretrain /opt/lorikeet/configs/tiny.yaml --set data.shards=/tmp/shards --set output=/tmp/runs \
  --set train.steps=2 --set train.precision=bf16 >"$scratch/training" 2>&1 || { cat "$scratch/training"; exit 1; }
grep -q '"state": "finished"' "$root/tmp/runs/tiny/status.json"
lorikeet generate /tmp/runs/tiny/model --prompt "The function" --max-tokens 3 >/dev/null

# Each library's owner has its licence there.
for name in torch- libzstd1- libgcc-s1- zlib1g- README.md; do
  compgen -G "$scratch/lorikeet/licences/$name*" >/dev/null || { echo "no licence of $name"; exit 1; }
done
bash -n "$root/opt/lorikeet/scripts/launch/supervise.sh"

# The image that the container file describes has the package where it lies here, and starts this program.
image=$root/opt/lorikeet/scripts/launch/Containerfile
grep -qx 'COPY \. /opt/lorikeet' "$image"
folder=$(sed -n 's/^ENV PATH=\([^ :]*\):.*/\1/p' "$image") program=$(sed -n 's/^ENTRYPOINT \["\(.*\)"\]$/\1/p' "$image")
isolated "$folder/$program" --version >/dev/null
unknown=$(sed -e ':join' -e '/\\$/{N;s/\\\n//;b join' -e '}' "$image" | grep -Ev '^(#|$|FROM debian:12-slim$|COPY |ENV |ENTRYPOINT )' || true)
[ -z "$unknown" ] || { printf 'not tried here: %s\n' "$unknown"; exit 1; }

if [ -e "$build/liblorikeet_cuda.so" ]; then
  loader=$(cd "$root" && compgen -G "lib64/ld-linux-*")
  for library in liblorikeet_cuda.so libtorch_cuda_linalg.so libcudnn_graph.so.9 libnvrtc.so.13; do
    missing=$(isolated "/$loader" --list "/opt/lorikeet/lib/$library" | grep 'not found' | grep -v 'libcuda\.so\.1 ' || true)
    [ -z "$missing" ] || { printf '%s in the package needs:\n%s\n' "$library" "$missing"; exit 1; }
  done
  echo "CUDA's half finds all but the driver"
fi
rm -rf "$scratch"
echo "the package runs and trains beside nothing but the C library"
