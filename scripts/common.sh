# shellcheck shell=sh
# The common part of scripts/demo and scripts/test, for POSIX shells, to be sourced
# from the root of the checkout. It installs hatch in .hatch/ and sets
#   driver   mysqlclient, or pymysql where the former cannot be compiled
#   python   a Python 3.10 or newer

say() {
    printf '%s\n' "$*" >&2
}

die() {
    say "$@"
    exit 1
}

find_python() {
    for python in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
        then
            return
        fi
    done
    die "Python 3.10 or newer is needed, and none was found as ${PYTHON:-python3}." \
        "PYTHON=/path/to/python names one in another place."
}

can_make_venv() {
    "$python" -c 'import ensurepip, venv' 2>/dev/null
}

# mysqlclient has no wheels: its installation needs a C compiler, and the headers of
# Python and of the MySQL client.
can_compile_mysqlclient() {
    compiler=${CC:-cc}
    command -v "$compiler" >/dev/null && command -v pkg-config >/dev/null || return
    for library in mysqlclient mariadb libmariadb; do
        if pkg-config --exists "$library"; then
            include=$("$python" -c \
                'import sysconfig; print(sysconfig.get_path("include"))')
            # The output of pkg-config has to be split into words.
            # shellcheck disable=SC2046
            printf '#include <Python.h>\n#include <mysql.h>\n' |
                "$compiler" -x c -fsyntax-only "-I$include" \
                    $(pkg-config --cflags "$library") - 2>/dev/null
            return
        fi
    done
    return 1
}

apt_packages="default-libmysqlclient-dev pkg-config gcc python3-dev python3-venv"

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

install_with_apt() {
    command -v apt-get >/dev/null && as_root true 2>/dev/null || return
    say "Installing with apt-get: $apt_packages"
    as_root apt-get -qq update >/dev/null || return
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y \
        --no-install-recommends $apt_packages >/dev/null
}

say_what_to_install() {
    say "  Debian, Ubuntu: sudo apt-get install $apt_packages
  Fedora:         sudo dnf install mariadb-connector-c-devel pkgconf gcc python3-devel
  Alpine:         sudo apk add mariadb-connector-c-dev pkgconf build-base python3-dev
  Homebrew:       brew install mysql-client pkgconf
                  export PKG_CONFIG_PATH=\"\$(brew --prefix mysql-client)/lib/pkgconfig\""
}

# The scripts that source this file use the variable.
# shellcheck disable=SC2034
choose_driver() {
    driver=mysqlclient
    if can_make_venv && can_compile_mysqlclient; then
        return
    fi
    # apt-get is tried only once, before .hatch/ exists.
    [ -d .hatch ] || install_with_apt || true
    if ! can_make_venv; then
        say "$python cannot make virtual environments. What is missing comes with"
        say_what_to_install
        exit 1
    fi
    if ! can_compile_mysqlclient; then
        driver=pymysql
        say "mysqlclient cannot be compiled here: going on with PyMySQL."
        if [ ! -d .hatch ]; then
            say "What is missing comes with"
            say_what_to_install
        fi
    fi
}

make_hatch() {
    requirement="hatch>=1.18,<2"
    venv=$PWD/.hatch/venv
    # The stamp is written last, so that an interrupted installation is repeated.
    stamp=$venv/complete
    wanted="$requirement $("$python" -c 'import sys; print(sys.executable, sys.version)')"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] ||
        ! "$venv/bin/python" -c 'import hatch' 2>/dev/null; then
        say "Installing hatch in .hatch/ (once)"
        rm -rf "$venv" .hatch/data
        "$python" -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            "$requirement"
        printf '%s\n' "$wanted" >"$stamp"
    fi
    # The user's own hatch, its configuration and environments stay untouched.
    unset HATCH_ENV HATCH_ENV_ACTIVE
    export HATCH_CONFIG="$PWD/.hatch/config.toml"
    export HATCH_DATA_DIR="$PWD/.hatch/data"
    export HATCH_CACHE_DIR="$PWD/.hatch/cache"
    # hatch must neither look for another Python nor download one.
    export HATCH_PYTHON=self UV_PYTHON_DOWNLOADS=never
    # uv compiles modules once; otherwise every process without write access would.
    export UV_COMPILE_BYTECODE=1
    PATH=$venv/bin:$PATH
    [ -f "$HATCH_CONFIG" ] || : >"$HATCH_CONFIG"
}

find_python
choose_driver
make_hatch
