# Shell functions on Debian's archive, to be sourced.

debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# The mirror that this machine's apt uses.
debian_mirror() {
  local mirror
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -m1 '/debian/*$' || true)
  echo "${mirror:-http://deb.debian.org/debian}"
}

# retry COMMAND…: up to three times, for what depends on a network.
retry() {
  local try
  for try in 1 2 3; do
    "$@" && return 0
    echo "try $try failed: $*" >&2
    sleep $((try * 2))
  done
  return 1
}

# install_packages NAME…: those of them that are not installed yet.
install_packages() {
  local missing=() package
  for package; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  export DEBIAN_FRONTEND=noninteractive
  retry apt-get -qq update
  retry apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
}

# private_apt DIR SUITE…: writes an apt configuration of its own below DIR, and leaves the host's alone. To be used
# as APT_CONFIG=DIR/conf. Indexes of testing and unstable on a mirror may be past their date: signatures are checked
# all the same.
private_apt() {
  local dir=$1 suite
  shift
  mkdir -p "$dir/lists" "$dir/cache"
  for suite; do
    echo "deb [signed-by=$debian_keyring] $(debian_mirror) $suite main"
  done >"$dir/sources"
  cat >"$dir/conf" <<CONF
Dir::State::Lists "$dir/lists";
Dir::Cache "$dir/cache";
Dir::Etc::SourceList "$dir/sources";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::Check-Valid-Until "false";
APT::Sandbox::User "root";
CONF
}
