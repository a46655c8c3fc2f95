# shellcheck shell=bash
# Creates a private prefix for an nginx that runs a configuration of nginx-conf/, as any user and beside any
# other nginx: all files that it reads and writes are in one directory. Sourced; needs messages.sh and $root.

# make_prefix DIRECTORY MODULE: creates the prefix. The configurations name files relative to it.
make_prefix() {
    mkdir -p "$1/conf" "$1/logs" "$1/temp" "$1/modules"
    ln -sfn "$root/nginx-conf/html" "$1/html"
    ln -sf "$2" "$1/modules/"
}

# render_configuration FILE PORT WORKERS [REDIS]: prints FILE with this port (and the next one instead of 8081), this number
# of workers, and its hubs connected to the Redis server with this URL. The paths of logs and temporary files that are
# compiled into a packaged nginx are overridden.
render_configuration() {
    local line redis=${4:-}
    # Quotes a word for nginx.
    redis=${redis//\\/\\\\}
    redis=${redis//\"/\\\"}
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
            'http {'*)
                printf '%s\n' "$line" '    access_log logs/access.log;'
                printf '    %s_temp_path temp/%s;\n' client_body client_body proxy proxy \
                    fastcgi fastcgi uwsgi uwsgi scgi scgi
                ;;
            '    sse_hub '*' {')
                printf '%s\n' "$line"
                [ -z "$redis" ] || printf '        redis "%s";\n' "$redis"
                ;;
            'worker_processes '*) printf 'worker_processes %s;\n' "$3" ;;
            *' listen 127.0.0.1:8080;'*) printf '%s\n' "${line/:8080;/:$2;}" ;;
            *'127.0.0.1:8081;'*) printf '%s\n' "${line/:8081;/:$(($2 + 1));}" ;;
            *) printf '%s\n' "$line" ;;
        esac
    done <"$1"
}

# main_settings DIRECTORY: prints directives for `nginx -g` that belong to this run instead of the
# configuration. If nginx is started by root, its workers would otherwise run as a user without access to a home
# directory.
main_settings() {
    printf 'daemon off; pid nginx.pid; error_log logs/error.log notice; error_log stderr warn;'
    [ "$(id -u)" -ne 0 ] || printf ' user %s;' "$(stat -c '%U %G' "$root")"
}
