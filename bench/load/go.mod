module mizzen.example/load

go 1.23
