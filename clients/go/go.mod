module example.org/tickr/clients/go

go 1.19
