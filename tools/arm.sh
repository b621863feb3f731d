#!/usr/bin/env bash
# Run the Rust tests, with the comparison of bits, on aarch64: as they are on an Arm machine, under emulation on Debian for
# x86-64.
#
#     tools/arm.sh [FOLDER]
#
# What emulation needs is fetched from Debian and PyPI, as apt and pip are set up here, and unpacked into FOLDER, build/arm
# if none is named: 700 MB, and 1.5 GB unpacked. Nothing is installed, and a second run fetches nothing. Where it cannot be
# fetched the tests are skipped, which the last line says.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=aarch64-unknown-linux-gnu
folder=$(realpath -m "${1:-build/arm}")
tests=(cargo test --release --lib --test api)

skip() {
  echo "make arm: SKIPPED, $1"
  exit 0
}

case $(uname -sm) in
  *" aarch64" | *" arm64") exec "${tests[@]}" ;;
  "Linux x86_64") ;;
  *) skip "it takes an Arm machine, or Debian on x86-64" ;;
esac
for command in apt-get apt-cache dpkg python3; do
  command -v "$command" >/dev/null || skip "it takes an Arm machine, or Debian on x86-64: there is no $command"
done

mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial" "$folder/debs"
touch "$folder/apt/status"
# Lists and caches of its own, for two architectures, beside a system on which nothing is installed. The system's sources.
cat >"$folder/apt/apt.conf" <<CONF
Dir::State::Lists "$folder/apt/lists";
Dir::State::status "$folder/apt/status";
Dir::Cache "$folder/apt/cache";
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "";
Acquire::Languages "none";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONF

# The packages that a package needs on this machine, itself among them; the system has its C library.
closure() {
  apt-cache -c "$folder/apt/apt.conf" depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
    --no-replaces --no-enhances "$1" | grep -E '^[a-z0-9]' | grep -vE '^(libc6|gcc-.*)$|:'
}

fetch_packages() {
  local std llvm oldest packages=(qemu-user-static libc6:arm64 libgcc-s1:arm64)
  apt-get -c "$folder/apt/apt.conf" update --quiet=2 || skip "the lists of Debian's packages cannot be fetched"
  if [ "$compiler" = debian ]; then
    # Its name has the version of Rust.
    std=$(closure libstd-rust-web-dev | grep -E '^libstd-rust-web-[0-9]' || true)
    oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    [ -n "$std" ] || skip "this Debian has no rustc-web"
    dpkg --compare-versions "${std#libstd-rust-web-}" ge "$oldest" || skip "this Debian's $std is older than Rust $oldest"
    llvm=$(closure "$std" | grep -E '^libllvm[0-9]+$' || true)
    mapfile -t -O "${#packages[@]}" packages < <(closure "$llvm")
    packages+=(rustc-web {"$std",libstd-rust-web-dev}{,:arm64})
  fi
  (cd "$folder/debs" && apt-get -c "$folder/apt/apt.conf" download --quiet=2 "${packages[@]}") ||
    skip "Debian's packages cannot be fetched"
}

# A tool chain that has the target is used as it is.
compiler=debian
if [ -d "$(rustc --print target-libdir --target "$target")" ]; then
  compiler=own
fi

if [ ! -e "$folder/sysroot/unpacked-$compiler" ]; then
  fetch_packages
  for package in "$folder"/debs/*.deb; do
    dpkg -x "$package" "$folder/sysroot"
  done
  touch "$folder/sysroot/unpacked-$compiler"
fi
if [ ! -e "$folder/zig/installed" ]; then
  python3 -m venv "$folder/zig"
  "$folder/zig/bin/python" -m pip install --quiet ziglang || skip "PyPI's ziglang, which links, cannot be fetched"
  touch "$folder/zig/installed"
fi

# The linker and C compiler: zig's, without the options that it does not know.
cat >"$folder/cc" <<'CC'
#!/usr/bin/env bash
for option in "$@"; do
  case $option in
    --target=* | -mno-omit-leaf-frame-pointer) ;;
    *) options+=("$option") ;;
  esac
done
exec "$(dirname "${BASH_SOURCE[0]}")/zig/bin/python" -m ziglang cc -target aarch64-linux-gnu.2.28 "${options[@]}"
CC
cat >"$folder/rustc" <<'RUSTC'
#!/usr/bin/env bash
usr=$(dirname "${BASH_SOURCE[0]}")/sysroot/usr
LD_LIBRARY_PATH="$usr/lib/x86_64-linux-gnu" exec "$usr/bin/rustc" "$@"
RUSTC
chmod +x "$folder/cc" "$folder/rustc"

if [ "$compiler" = debian ]; then
  export RUSTC="$folder/rustc"
fi
export CC_aarch64_unknown_linux_gnu="$folder/cc"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER="$folder/cc"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$folder/sysroot/usr/bin/qemu-aarch64-static -L $folder/sysroot"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$folder/target}"
exec "${tests[@]}" --target "$target"
