#!/bin/sh
# Installs irt-assets as systemd services, from the folder built by `make wheelhouse`. See docs/how-to/deploy-systemd.md.
set -eu

usage='install.sh [--timers] [--journal-limits] [--dry-run]
                                     install, or repair an installation
install.sh --upgrade [--dry-run]     install this release next to the old one: schema first, then the switch
install.sh --rollback [--dry-run]    return to the previous release; the schema stays
install.sh --uninstall [--purge] [--dry-run]
                                     remove units and code; --purge: settings and files of the platform, too

--timers    use only timers, without the daemon; --daemon: use the daemon again, in addition to timers
--journal-limits
            limit the journal of the whole host, of all its services: 500 MB, a month
--root DIR  write below DIR instead of / (for tests)'

here=$(CDPATH='' cd "$(dirname "$0")" && pwd)
mode=install scheduler='' journal='' dry='' purge='' root=''
while [ $# -gt 0 ]; do
    case $1 in
        --upgrade | --rollback | --uninstall) mode=${1#--} ;;
        --timers | --daemon) scheduler=${1#--} ;;
        --journal-limits) journal=1 ;;
        --dry-run) dry=1 ;;
        --purge) purge=1 ;;
        --root) root=${2:?--root DIR}; shift ;;
        *) printf '%s\n' "$usage"; [ "$1" = --help ] && exit 0; exit 2 ;;
    esac
    shift
done

opt=$root/opt/irt
etc=$root/etc/irt
units=$root/etc/systemd/system
env_file=$etc/irt.env
command=$root/usr/local/bin/irt
servers='irt-code-server irt-daemon irt-webserver irt-exporter irt-theta-api shiny-dashboard jwt-verifier'

say() { printf '==> %s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
refuse() { printf 'refused: %s\n' "$*" >&2; exit 1; }
run() { if [ "$dry" ]; then printf 'would run: %s\n' "$*"; else "$@"; fi; }

release_of() { [ -L "$1" ] && basename "$(readlink "$1")" || true; }
# The value without surrounding quotes, which systemd removes, too.
name_setting() { sed -n "s/^$2=//p" "$1" 2>/dev/null | tail -n 1 | sed "s/^\"\(.*\)\"\$/\1/; s/^'\(.*\)'\$/\1/"; }
is_set() { [ -n "$(name_setting "$1" "$2")" ]; }

check_wheelhouse() {
    [ -f "$here/SHA256SUMS" ] || refuse "$here is not a wheelhouse: run \`make wheelhouse\`, and install.sh in the folder that it builds"
    say "checking the hashes of $(wc -l <"$here/SHA256SUMS") files"
    (cd "$here" && sha256sum --check --quiet SHA256SUMS) || refuse "the wheelhouse is incomplete or damaged: copy it again"
    release=$(cat "$here/release")
    this_machine=$(python3 -c 'import platform, sys; print("%d.%d" % sys.version_info[:2], platform.machine())') ||
        refuse 'there is no python3: apt-get install python3'
    [ "$this_machine" = "$(cat "$here/python")" ] || refuse "this machine has Python $this_machine, the wheelhouse is for $(cat "$here/python"): build it on a machine like this one"
}

warn_of_cron_lines() {
    for file in "$root/etc/crontab" "$root"/etc/cron.d/* "$root"/var/spool/cron/crontabs/*; do
        [ -f "$file" ] || continue
        grep -nE '^[^#].*(run_calibration|run_all_calibrations|calibrate_monthly|generate_reports|run_invariants|[/ ]irt (calibrate|job|report|invariants|nightly))' "$file" |
            while IFS= read -r line; do warn "$file:$line - cron still runs jobs of the units: delete that line"; done
    done
}

explain_postgresql() {
    cat >&2 <<END
The platform needs PostgreSQL 15 or newer, here or elsewhere. Here, without any password:
    apt-get install postgresql
    su postgres -c 'createuser irt'
    su postgres -c 'createdb --owner=irt irt'
and in $env_file
    DATABASE_URL=postgresql:///irt?host=/var/run/postgresql
then run this command again. The embedded server of \`irt demo\` is not for an installation.
END
}

# Check an existing env file: only root may read it, and systemd must be able to parse it.
check_env_file() {
    [ "$(stat -c %u "$1")" = "$(id -u)" ] || refuse "$1 does not belong to root: chown root:root $1"
    case $(stat -c %a "$1") in
        600 | 400) ;;
        *) refuse "$1 can be read by users other than root, and contains passwords: chmod 600 $1" ;;
    esac
    if grep -q "$(printf '\r')" "$1"; then
        refuse "$1 has Windows line ends (CRLF), which would become part of every value: sed -i 's/\\r\$//' $1"
    fi
    if bad=$(grep -nE '^[[:space:]]*(export[[:space:]]|[A-Za-z_0-9]+[[:space:]]+=|[A-Za-z_0-9]+=[[:space:]])' "$1"); then
        refuse "$1, line ${bad%%:*}: write NAME=value, without export and without blanks around ="
    fi
    if bad=$(grep -nE "^[A-Za-z_0-9]+=(\"[^\"]*|'[^']*|[^\"']+[\"'])\$" "$1"); then
        refuse "$1, line ${bad%%:*}: an unpaired quotation mark; a value needs no quotes, and systemd removes a pair around it"
    fi
}

check_settings() {
    for name in irt jwt-verifier irt-r; do
        file=$etc/$name.env
        if [ ! -e "$file" ]; then
            say "writing the template $file"
            run install -D -m 600 "$here/share/etc/$name.env.example" "$file"
        fi
        [ -e "$file" ] && check_env_file "$file"
    done
    if ! is_set "$env_file" DATABASE_URL && ! { is_set "$env_file" PGHOST && { is_set "$env_file" PGUSER || is_set "$env_file" PGDATABASE; }; }; then
        explain_postgresql
        [ "$dry" ] || refuse "$env_file names no database"
    fi
}

make_account_and_folders() {
    say 'the account irt, its folders, rotation of logs'
    run install -D -m 644 "$here/share/etc/sysusers.conf" "$root/usr/lib/sysusers.d/irt.conf"
    run install -D -m 644 "$here/share/etc/tmpfiles.conf" "$root/usr/lib/tmpfiles.d/irt.conf"
    run install -D -m 644 "$here/share/etc/logrotate.conf" "$root/etc/logrotate.d/irt"
    run systemd-sysusers "$root/usr/lib/sysusers.d/irt.conf"
    run systemd-tmpfiles --create "$root/usr/lib/tmpfiles.d/irt.conf"
}

limit_journal() {
    [ "$journal" ] || return 0
    say 'limits of the journal'
    run install -D -m 644 "$here/share/etc/journald.conf" "$root/etc/systemd/journald.conf.d/irt.conf"
    run systemctl restart systemd-journald.service
}

# Units write only below /var/lib/irt. Units that write reports may also write to REPORT_OUTPUT_DIR.
allow_report_folder() {
    folder=$(name_setting "$env_file" REPORT_OUTPUT_DIR)
    case $folder in
        '' | /var/lib/irt | /var/lib/irt/*) folder='' ;;
        /*) ;;
        *) refuse "$env_file: REPORT_OUTPUT_DIR=$folder is not an absolute path: begin it with /" ;;
    esac
    for name in irt-report irt-report-; do
        drop_in=$units/$name.service.d/report-output-dir.conf
        if [ -z "$folder" ]; then
            run rm -f "$drop_in"
            continue
        fi
        run mkdir -p "${drop_in%/*}"
        say "$drop_in: the units of reports may write to $folder"
        [ "$dry" ] || printf '[Service]\nReadWritePaths=%s\n' "$folder" >"$drop_in"
    done
    [ -z "$folder" ] || [ -d "$root$folder" ] || run install -d -o irt -g irt -m 750 "$root$folder"
}

unpack_release() {
    new=$opt/releases/$release
    if [ -e "$new/.complete" ]; then
        say "release $release is already unpacked"
        return
    fi
    say "unpacking release $release into $new"
    if [ "$dry" ]; then
        echo "would create a Python environment there from $(find "$here/wheels" -name '*.whl' | wc -l) wheels"
        return
    fi
    umask 022
    rm -rf "$new"
    mkdir -p "$opt/releases"
    python3 -m venv --without-pip "$new"
    tools=$(mktemp -d)
    python3 -m zipfile -e "$here"/wheels/uv-*.whl "$tools"
    uv=$(echo "$tools"/uv-*.data/scripts/uv)
    chmod +x "$uv"
    into="--python $new/bin/python --quiet --no-config --no-cache --offline --no-index --no-deps --compile-bytecode --link-mode copy"
    for lock in "$here"/locks/requirements*.lock; do
        [ "$(basename "$lock")" = requirements-build.lock ] && continue
        # shellcheck disable=SC2086 - options, one word each
        "$uv" pip install $into --find-links "$here/wheels" --require-hashes --requirement "$lock"
    done
    # shellcheck disable=SC2086
    "$uv" pip install $into "$here"/wheels/irt_psychometrics-*.whl "$here"/wheels/irt_assets-*.whl
    rm -rf "$tools"
    cp -R "$here/share" "$here/libexec" "$new/"
    cp "$here/install.sh" "$new/"
    chmod -R go+rX "$new"
    touch "$new/.complete"
}

# `irt` of this release, with the account and settings of its units.
irt() { run "$opt/releases/$release/libexec/irt-as-service" "$@"; }

install_units() {
    say "units of release $1"
    disable_dropped_units "$1"
    remove_units
    run mkdir -p "$units" "$root/usr/local/bin"
    run ln -sfn /opt/irt/current/libexec/irt-as-service "$command"
    run cp -R "$opt/releases/$1/share/units/." "$units/"
    allow_report_folder
    run systemctl daemon-reload
}

# Otherwise systemd keeps links to units that the new release does not have.
disable_dropped_units() {
    [ -d "$opt/current/share/units" ] || return 0
    for unit in $(cd "$opt/current/share/units" && ls -- *.timer *.service | grep -v @); do
        [ -e "$opt/releases/$1/share/units/$unit" ] || ! systemctl is-enabled --quiet "$unit" 2>/dev/null ||
            run systemctl disable --now --quiet "$unit"
    done
}

# Files of a release; the operator's drop-ins stay.
remove_units() {
    [ -d "$opt/current/share/units" ] || return 0
    (cd "$opt/current/share/units" && find . ! -type d) | while IFS= read -r name; do run rm -f "$units/$name"; done
    (cd "$opt/current/share/units" && find . -mindepth 1 -type d) | while IFS= read -r name; do
        [ "$dry" ] || rmdir "$units/$name" 2>/dev/null || true
    done
}

switch_to() {
    old=$(release_of "$opt/current")
    install_units "$1"
    if [ "$old" != "$1" ]; then
        [ "$old" ] && run ln -sfn "releases/$old" "$opt/previous"
        run ln -sfn "releases/$1" "$opt/current"
    fi
}

drop_older_releases() {
    for path in "$opt"/releases/*; do
        name=$(basename "$path")
        [ "$name" = "$(release_of "$opt/current")" ] || [ "$name" = "$(release_of "$opt/previous")" ] || run rm -rf "$path"
    done
}

# The servers whose settings exist, and irt-r if it is enabled. Prints why other servers are not started.
services_to_start() {
    for server in $servers; do
        case $server in
            irt-daemon) [ "$scheduler" = daemon ] && echo $server ;;
            irt-theta-api) { is_set "$env_file" IRT_THETA_TOKEN || is_set "$env_file" JWT_ISSUER; } && echo $server ||
                echo 'irt-theta-api is not started: set IRT_THETA_TOKEN or JWT_…' >&2 ;;
            shiny-dashboard) is_set "$env_file" JWT_ISSUER && echo $server ||
                echo 'shiny-dashboard is not started: set JWT_… (docs/how-to/login.md)' >&2 ;;
            jwt-verifier) is_set "$etc/jwt-verifier.env" JWT_ISSUER && echo $server ||
                echo "jwt-verifier is not started: set JWT_… in $etc/jwt-verifier.env" >&2 ;;
            *) echo $server ;;
        esac
    done
    if [ "$old" ] && systemctl is-enabled --quiet irt-r.service 2>/dev/null; then echo irt-r; fi
}

# The R engines need no Python package on a server, as R runs in its own service.
warn_of_r() {
    case ,$(name_setting "$env_file" IRT_ENGINES), in
        *mirt* | *brms*) is_set "$env_file" R_IRT_BASE_URL || warn "IRT_ENGINES names an engine of R, which runs as the service irt-r:
    apt-get install r-cran-plumber r-cran-processx r-cran-brms     # mirt: docs/how-to/r-service.md
    R_IRT_INTERNAL_TOKEN=\$(openssl rand -hex 32), the same in $etc/irt-r.env and in $env_file; there also
    R_IRT_BASE_URL=http://127.0.0.1:8000
    systemctl enable --now irt-r, and run this command again" ;;
    esac
}

# Timers of the daemon's schedules, and of the report. The operator decides about backups; four timers replace sensors
# of the daemon.
timers() {
    (cd "$opt/releases/$1/share/units" 2>/dev/null || cd "$here/share/units"; ls -- *.timer) | grep -v -e irt-theta-sweep -e irt-intake -e irt-pull -e irt-backup
}

# Without an option, the current scheduler stays.
choose_scheduler() {
    requested_scheduler=$scheduler
    [ "$scheduler" ] || { [ "$old" ] && ! systemctl is-enabled --quiet irt-daemon.service && scheduler=timers; } || scheduler=daemon
}

# The timers to start: at first all; later those that are enabled, and those that this release adds to them. If none is
# enabled, `--timers` starts all, because then nothing else would run the jobs.
timers_to_start() {
    enabled=''
    for timer in $([ "$old" ] && timers "$old"); do
        if systemctl is-enabled --quiet "$timer" 2>/dev/null; then enabled="$enabled $timer"; fi
    done
    if [ "$old" ] && [ -z "$enabled" ]; then
        [ "$requested_scheduler" != timers ] || timers "$1"
        return 0
    fi
    for timer in $(timers "$1"); do
        case " $enabled " in *" $timer "*) echo "$timer"; continue ;; esac
        [ "$old" ] && [ -e "$opt/releases/$old/share/units/$timer" ] || echo "$timer"
    done
}

start_services() {
    names=$(services_to_start | sed 's/$/.service/')
    [ "$scheduler" = daemon ] || run systemctl disable --now irt-daemon.service
    names="$names $(timers_to_start "$1")"
    say "starting $(echo "$names" | tr '\n' ' ')"
    # shellcheck disable=SC2086
    run systemctl enable --quiet irt.target $names
    # shellcheck disable=SC2086
    run systemctl restart $names || {
        systemctl --no-pager --failed list-units 'irt*' 'jwt*' 'shiny*' >&2 || true
        refuse "some units did not start: see journalctl -u UNIT -p err; to return to the previous release: $opt/current/install.sh --rollback"
    }
    run systemctl start irt.target
}

install_release() {
    check_wheelhouse
    old=$(release_of "$opt/current")
    if [ "$old" ] && [ "$old" != "$release" ] && [ "$mode" = install ]; then
        refuse "release $old is installed, this is $release: install.sh --upgrade"
    fi
    [ "$mode" = install ] || [ "$old" ] || refuse 'nothing is installed: install.sh without --upgrade'
    choose_scheduler
    warn_of_cron_lines
    check_settings
    make_account_and_folders
    limit_journal
    unpack_release
    say 'checking the settings'
    irt health --config || refuse "correct $env_file, then run this command again"
    say 'schema'
    irt db upgrade || refuse "the schema was not upgraded; the installed release continues unchanged"
    switch_to "$release"
    start_services "$release"
    warn_of_r
    [ "$dry" ] || drop_older_releases
    say "release $release is installed. systemctl list-units 'irt*' 'jwt*' 'shiny*'; journalctl -u irt-daemon -f"
}

roll_back() {
    previous=$(release_of "$opt/previous")
    [ "$previous" ] && [ -e "$opt/releases/$previous/.complete" ] || refuse 'there is no previous release'
    say "returning to release $previous; the schema stays, because that release works with it, too"
    old=$(release_of "$opt/current")
    choose_scheduler
    install_units "$previous"
    run ln -sfn "releases/$old" "$opt/previous"
    run ln -sfn "releases/$previous" "$opt/current"
    start_services "$previous"
    say "release $previous is installed"
}

uninstall_release() {
    [ -L "$opt/current" ] || refuse 'nothing is installed'
    say 'stopping and removing the units'
    # shellcheck disable=SC2046
    run systemctl disable --now --quiet irt.target irt-r.service $(printf '%s.service ' $servers) $(timers "$(release_of "$opt/current")") irt-theta-sweep.timer irt-intake.timer irt-pull.timer irt-backup.timer
    # shellcheck disable=SC2046
    run systemctl stop $(cd "$opt/current/share/units" && ls -- *.service | grep -v @)
    remove_units
    run systemctl daemon-reload
    run rm -f "$root/usr/lib/sysusers.d/irt.conf" "$root/usr/lib/tmpfiles.d/irt.conf" \
        "$root/etc/systemd/journald.conf.d/irt.conf" "$root/etc/logrotate.d/irt" \
        "$units/irt-report.service.d/report-output-dir.conf" "$units/irt-report-.service.d/report-output-dir.conf"
    run rm -rf "$opt" "$command"
    if [ "$purge" ]; then
        say 'removing settings, snapshots, reports and caches'
        run rm -rf "$etc" "$root/var/lib/irt" "$root/var/cache/irt" "$root/var/log/irt"
        say 'the database stays: dropdb irt removes it, userdel irt the account'
    else
        say "kept: $etc, $root/var/lib/irt, the account irt and the database; --purge removes the first two"
    fi
}

[ "$root" ] || [ "$dry" ] || [ "$(id -u)" = 0 ] || refuse 'only root can install services: sudo'
case $mode in
    install | upgrade) install_release ;;
    rollback) roll_back ;;
    uninstall) uninstall_release ;;
esac
