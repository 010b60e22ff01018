module tests/interop/go

go 1.24
