#!/bin/sh
# `make install`: the packages of the lock in a virtual environment, this project beside it, two users,
# the units and their settings. Settings that are there already are kept. It starts nothing.
set -eu
umask 022
python=$1 prefix=$2 storage=$3
settings=/etc/validibot-maintenance
units=/etc/systemd/system
cd "$(dirname "$0")/../.."

fail() { echo "make install: $1" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "run it as root"
command -v systemd-sysusers >/dev/null || fail "there is no systemd"
for path in "$prefix" "$storage"; do
    case $path in
        /*) ;;
        *) fail "$path must begin with /" ;;
    esac
    case $path in
        *[!A-Za-z0-9/._-]*) fail "$path must contain letters, digits and / . _ - only" ;;
    esac
done
# At least one is enough for is-active.
! systemctl is-active --quiet validibot-maintenance-server validibot-maintenance-worker \
    validibot-maintenance-watch || fail "it runs: systemctl stop validibot-maintenance.target"
[ "$(pwd -P)" != "$prefix" ] || fail "PREFIX must not be the source's own folder"

systemd-sysusers "$PWD/deployments/systemd/sysusers.conf"

mkdir -p "$prefix/bin" "$storage"
# The copy of the lock is written when all its packages are installed.
if ! cmp -s requirements-runtime.lock "$prefix/requirements-runtime.lock" \
    || ! "$prefix/venv/bin/python" -c 'import httpx' 2>/dev/null; then
    echo "Installing the packages of requirements-runtime.lock into $prefix/venv (a minute) ..."
    rm -f "$prefix/requirements-runtime.lock"
    "$python" -m venv --clear "$prefix/venv"
    "$prefix/venv/bin/python" -m pip install -qq --no-input --disable-pip-version-check \
        --no-compile --require-hashes --no-deps -r requirements-runtime.lock
    # Some packages ship templates that only look like Python, hence the `true`.
    "$prefix/venv/bin/python" -m compileall -qq -j 0 "$prefix/venv/lib" || true
    cp requirements-runtime.lock "$prefix/"
fi
for part in flows tasks maintenance deployments demo docs; do
    rm -rf "${prefix:?}/$part"
    cp -R "$part" "$prefix/"
done
cp prefect.yaml LICENSE "$prefix/"
# Runs start in folders of their own, and find the project by this.
"$prefix/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' | {
    read -r packages
    echo "$prefix" >"$packages/validibot-maintenance.pth"
}
for part in flows tasks maintenance deployments demo; do
    "$prefix/venv/bin/python" -m compileall -qq "$prefix/$part"
done

adapted() { sed -e "s#/opt/validibot-maintenance#$prefix#g" -e "s#/srv/validibot/storage#$storage#g" "$1"; }
for unit in deployments/systemd/validibot-maintenance*.service deployments/systemd/*.target; do
    adapted "$unit" >"$units/${unit##*/}"
done
adapted deployments/systemd/run.sh >"$prefix/bin/validibot-maintenance"
chmod 755 "$prefix/bin/validibot-maintenance"

mkdir -p -m 700 "$settings"
umask 077
for name in jobs.env server.env; do
    [ -e "$settings/$name" ] || cp "deployments/systemd/$name" "$settings/$name"
done
if [ ! -e "$settings/login.env" ]; then
    login="operator:$("$python" -c 'import secrets; print(secrets.token_hex(24))')"
    printf 'PREFECT_API_AUTH_STRING=%s\nPREFECT_SERVER_API_AUTH_STRING=%s\n' "$login" "$login" \
        >"$settings/login.env"
fi

if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
echo "Installed. The settings are in $settings, the login of the UI in $settings/login.env"
