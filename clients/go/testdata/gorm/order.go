package main

import (
	"context"

	"github.com/jinzhu/gorm"
)

// Order is a model whose primary key is a ticket.
type Order struct {
	ID   uint64 `gorm:"primary_key;auto_increment:false"`
	Item string `gorm:"not null"`
}

// BeforeCreate is called by GORM for each row.
func (order *Order) BeforeCreate(*gorm.DB) (err error) {
	order.ID, err = tickets.Next(context.Background())
	return err
}
