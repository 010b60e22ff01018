module benchmarks/servers/go_server

go 1.24
