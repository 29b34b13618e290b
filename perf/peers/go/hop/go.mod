module hop

go 1.19
